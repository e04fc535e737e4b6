"""The ceiling: a raw ASGI application that reads the body and repeats an answer of our service. No JSON, no model."""

import os
from pathlib import Path

from starlette.types import Receive, Scope, Send

SINGLE, BATCH = ((Path(os.environ["BENCH_WORK"]) / f"{kind}.answer").read_bytes() for kind in ("single", "batch"))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """One request."""
    while (await receive()).get("more_body"):
        pass
    body = BATCH if scope["path"] == "/predict/batch" else SINGLE
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
