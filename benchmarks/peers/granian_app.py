"""Granian's own interface, RSGI, with a fixed answer: what Python code can reach behind a server written in Rust."""

import os
from pathlib import Path
from typing import Any

SINGLE, BATCH = ((Path(os.environ["BENCH_WORK"]) / f"{kind}.answer").read_bytes() for kind in ("single", "batch"))
HEADERS = [("content-type", "application/json")]


async def app(scope: Any, protocol: Any) -> None:
    """One request."""
    await protocol()
    protocol.response_bytes(200, HEADERS, BATCH if scope.path == "/predict/batch" else SINGLE)
