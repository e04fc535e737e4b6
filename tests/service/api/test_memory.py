"""A request's memory is freed with its response, whatever was wrong with the request."""

import asyncio
import contextlib
import gc
import io
import random
import tracemalloc
from typing import Any

import pyarrow as pa
import pytest

from service.app import create_app
from service.model.predictor import Predictor
from service.records.errors import RecordError
from service.settings import Settings
from service.tables.source import READ_BYTES, Limits, open_source
from tests.fuzz.bodies import Request, request


async def status(app: Any, wanted: Request) -> int:
    """The response's status, by plain ASGI: a client would leave cycles of its own."""
    path, _, query = wanted.path.partition("?")
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in wanted.headers]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": query.encode(),
        "headers": headers,
        "app": app,
    }
    messages = [{"type": "http.request", "body": wanted.body}]
    got: list[Any] = []

    async def receive() -> Any:
        if messages:
            return messages.pop()
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        got.append(message)

    await app(scope, receive, send)
    return int(got[0]["status"])


def test_no_request_leaves_cycles(predictor: Predictor) -> None:
    """The garbage collector runs rarely: until then a cycle would keep bodies and files."""
    requests = [request(random.Random(seed)) for seed in range(400)]

    async def work() -> None:
        app = create_app(Settings(), predictor)
        async with app.router.lifespan_context(app):
            assert {await status(app, wanted) for wanted in requests} > {200, 400, 415, 422}
            await asyncio.sleep(0)
            gc.collect()  # what was made once for each kind
            gc.disable()
            for wanted in requests:
                await status(app, wanted)
            await asyncio.sleep(0)
            assert gc.collect() == 0

    thresholds = gc.get_threshold()
    try:
        asyncio.run(work())
    finally:
        gc.enable()
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@pytest.mark.parametrize("packing", ["gzip", "deflate", "zstd"])
def test_damaged_compressed_data_leak_no_memory(packing: str) -> None:
    """Data that are cut off in the middle."""
    whole = pa.compress(
        random.Random(0).randbytes(READ_BYTES), "gzip" if packing == "deflate" else packing, asbytes=True
    )

    def fail() -> None:
        with contextlib.suppress(RecordError):
            source = open_source(io.BytesIO(whole[: len(whole) // 2]), packing, Limits())
            while source.read(READ_BYTES):
                pass
            raise AssertionError("the data were whole")

    fail()
    tracemalloc.start()
    try:
        for _ in range(20):
            fail()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < READ_BYTES
