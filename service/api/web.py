"""Static files: the web page at /, what it is made of, and the text for clinicians."""

import mimetypes
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

WEB = Path(__file__).parents[1] / "web"
PAGES = {"/": "index.html", "/clinicians": "clinicians.md"}
FOLDER = "/web/"
FILES = StaticFiles(directory=WEB)
router = APIRouter(include_in_schema=False)

mimetypes.add_type("text/javascript", ".js")  # some systems map it to text/plain, which browsers do not run as a module


@router.api_route("/", methods=["GET", "HEAD"])
@router.api_route("/clinicians", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    return await _file(PAGES[request.scope["route"].path], request)


@router.api_route(FOLDER + "{path:path}", methods=["GET", "HEAD"])
async def file(request: Request, path: str) -> Response:
    return await _file(path, request)


async def _file(path: str, request: Request) -> Response:
    """A file of the folder, or 304 where the client has it. Raises HTTPException 404."""
    response = await FILES.get_response(path, request.scope)
    response.headers["Cache-Control"] = "no-cache"  # a browser asks at each use whether the file has changed
    return response
