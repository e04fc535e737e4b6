"""Decompress JSON bodies."""

import asyncio
import io

from service.records.errors import TooLarge
from service.settings import Settings


async def decompress(content: bytes, encoding: str, limit: int, settings: Settings) -> bytes:
    """Decompress a body of one of `http.body.ENCODINGS`, at most `limit` bytes. Raises TooLarge and TableError."""
    return await asyncio.to_thread(_decompress, content, encoding, limit, settings.max_ratio)


def _decompress(content: bytes, encoding: str, limit: int, ratio: int) -> bytes:
    # Imported here, in a thread: pyarrow delays neither start-up nor the event loop.
    from service.tables.source import Limits, iter_pieces, open_source

    source = open_source(io.BytesIO(content), encoding, Limits(packed=limit, unpacked=limit, ratio=ratio))
    try:
        return b"".join(iter_pieces(source))
    except TooLarge:
        raise TooLarge(f"Decompressed, the body is larger than {limit} bytes.") from None
