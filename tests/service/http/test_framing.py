"""HEAD is answered as GET on every route that has it, without a body."""

import asyncio
from typing import Any

from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Message

from service.app import create_app, with_middleware
from service.http.request_log import route_templates
from service.model.predictor import Predictor
from service.settings import Settings

PARAMETERS = {"{path:path}": "main.js", "{model}": "heart_disease", "{version}": "3"}
CHANGES = {"/metrics"}  # each request changes its numbers


def ask(app: ASGIApp, method: str, path: str, version: str) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body as the app hands them to the server."""
    sent: list[Message] = []

    received: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        while not received:  # the client stays
            await asyncio.sleep(60)
        return received.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "http_version": version}
    scope |= {"headers": [], "query_string": b"", "root_path": "", "scheme": "http", "raw_path": path.encode()}

    async def run() -> None:
        await app(scope, receive, send)

    asyncio.run(run())
    headers = {name: value for name, value in sent[0]["headers"] if name != b"x-request-id"}
    return sent[0]["status"], headers, b"".join(message["body"] for message in sent[1:])


def test_head_is_get_without_the_body(predictor: Predictor) -> None:
    """To HTTP/1.0 too; nothing is counted as sent."""
    app = create_app(Settings(), predictor)
    served = with_middleware(app)
    answered = 0
    with TestClient(app):
        for template in (*route_templates(app), "/static-offline-docs/favicon.png", "/nowhere", "/web/none"):
            path = template
            for name, value in PARAMETERS.items():
                path = path.replace(name, value)
            assert "{" not in path
            for version in ("1.1", "1.0"):
                status, headers, body = ask(served, "GET", path, version)
                found = ask(served, "HEAD", path, version)
                if path in CHANGES:
                    headers[b"content-length"] = found[1][b"content-length"]
                assert found[0] == status
                if status == 405:  # whose text names the method
                    continue
                assert found == (status, headers, b""), path
                if status == 200:
                    assert ask(served, "DELETE", path, version)[1][b"allow"] == b"GET, HEAD", path
                answered += status == 200 and body != b""
    assert answered >= 30
