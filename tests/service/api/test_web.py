"""The web page's files: types, headers, caching, and no requests to other hosts."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from patient.artefact import FILE
from service.api.web import FOLDER, PAGES, WEB
from service.app import create_app, with_middleware
from service.http.security_headers import content_security_policy
from service.model.predictor import Predictor
from service.settings import Settings
from tests.conftest import MODELS

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".md": "text/markdown"}


FILES = {path: WEB / name for path, name in PAGES.items()} | {FOLDER + file.name: file for file in WEB.iterdir()}


@pytest.fixture(scope="module")
def served(predictor: Predictor) -> Iterator[TestClient]:
    """The service with the default settings."""
    with TestClient(with_middleware(create_app(Settings(), predictor)), raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("path", FILES)
def test_each_file_has_its_type_its_policy_and_an_etag(served: TestClient, path: str) -> None:
    """A browser runs no module of another type; a client that has the current file gets 304."""
    found = served.get(path)
    assert found.content == FILES[path].read_bytes()
    assert found.headers["content-type"] == f"{TYPES[FILES[path].suffix]}; charset=utf-8"
    assert found.headers["content-security-policy"] == content_security_policy().decode()
    assert found.headers["cache-control"] == "no-cache"
    for known in (found.headers["etag"], f'"other", W/{found.headers["etag"]}'):
        again = served.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", found.headers["etag"])
    assert served.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert served.head(path).headers["content-length"] == str(len(found.content))


def test_the_whole_page_is_small_enough_to_be_read() -> None:
    """Plain files without a build step stay reviewable."""
    assert sum(len(file.read_text().splitlines()) for file in WEB.iterdir()) < 1100


@pytest.mark.parametrize(
    "path",
    ["/web", "/web/", "/web/../settings.py", "/web/%2e%2e/settings.py", "/web/..%2fapp.py", "/web/main.js%00",
     "/web/MAIN.js", "//etc/passwd", "/web//etc/passwd", "/web/%2fetc/passwd", "/docs/clinicians.md"],
)  # fmt: skip
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    """By no spelling of a path, and from no other folder."""
    assert client.get(path).status_code == 404


def test_the_files_name_no_other_host_and_set_no_markup() -> None:
    """A page that handles patient data runs only its own code, and shows responses as text."""
    for file in FILES.values():
        if file.suffix == ".md":
            continue
        text = file.read_text()
        assert set(re.findall(r"https?://[\w./]+", text)) <= {"http://www.w3.org/2000/svg"}, file
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), (
            file
        )
        assert not re.search(r"localStorage|sessionStorage|indexedDB|document\.cookie|pushState|console\.", text), file
        assert not re.search(r"<script>|\son\w+=|\sstyle=", text), file


def test_the_page_is_not_in_the_openapi_document(client: TestClient) -> None:
    """A generated client has no use for it."""
    assert not {*FILES} & {*client.get("/openapi.json").json()["paths"]}


def test_the_model_card_is_that_of_the_version_that_serves(client: TestClient) -> None:
    """The file beside the model."""
    card = client.get("/model/card")
    version = client.get("/model").json()["version"]
    assert card.headers["content-type"] == "text/markdown; charset=utf-8"
    assert card.content == (MODELS / version / "MODEL_CARD.md").read_bytes()


def test_a_version_without_a_card_says_so(predictor: Predictor, tmp_path: Path) -> None:
    """404 as a problem: a model file may be deployed without its card."""
    with TestClient(create_app(Settings(), replace(predictor, file=tmp_path / FILE))) as client:
        refused = client.get("/model/card")
        assert (refused.status_code, refused.headers["content-type"]) == (404, "application/problem+json")
        assert "no model card" in refused.json()["detail"]
