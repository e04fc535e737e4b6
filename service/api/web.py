"""GET /: the page for people, and the files that it is made of; no other file, and nothing from elsewhere."""

import hashlib
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter, Request, Response

router = APIRouter(include_in_schema=False)

HERE = Path(__file__).parents[1] / "web"
DOCS = Path(__file__).parents[2] / "docs"
SCRIPTS = ("answer", "api", "chart", "csv", "dom", "examples", "file", "form", "main", "markdown", "tabs")
HTML, CSS, SCRIPT, MARKDOWN = (f"text/{kind}; charset=utf-8" for kind in ("html", "css", "javascript", "markdown"))
FILES = {
    "/": (HERE / "index.html", HTML),
    "/web/style.css": (HERE / "style.css", CSS),
    **{f"/web/{name}.js": (HERE / f"{name}.js", SCRIPT) for name in SCRIPTS},
    "/clinicians": (DOCS / "clinicians.md", MARKDOWN),
}
# The page runs these files alone, sends nothing but to this service, and stands in nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent."""

    content: bytes
    media_type: str
    etag: str


@cache
def asset(path: str) -> Asset:
    """The file at a path of FILES, read once."""
    file, media_type = FILES[path]
    content = file.read_bytes()
    return Asset(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


async def web(request: Request) -> Response:
    """A file, or 304 where the client has it already."""
    found = asset(request.scope["path"].removeprefix(request.scope.get("root_path", "")))
    headers = {"ETag": found.etag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    known = (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(","))
    if found.etag in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(found.content, headers=headers, media_type=found.media_type)


for path in FILES:
    router.add_api_route(path, web, methods=["GET", "HEAD"])
