"""The files of the page: which there are, how they are sent, and that they ask nobody else for anything."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.api.web import FILES, HERE, POLICY
from service.app import create_app
from service.model.predictor import Predictor
from service.settings import Settings
from tests.conftest import MODELS, ROOT

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".md": "text/markdown"}


@pytest.mark.parametrize("path", FILES)
def test_each_file_has_its_type_its_policy_and_an_etag(client: TestClient, path: str) -> None:
    """A browser runs no module of another type; who has the file already gets 304 and no body."""
    found = client.get(path)
    file, _ = FILES[path]
    assert found.content == file.read_bytes()
    assert found.headers["content-type"] == f"{TYPES[file.suffix]}; charset=utf-8"
    assert found.headers["content-security-policy"] == POLICY
    assert found.headers["cache-control"] == "no-cache"
    for known in (found.headers["etag"], f'"other", W/{found.headers["etag"]}'):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", found.headers["etag"])
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.head(path).headers["content-length"] == str(len(found.content))


def test_all_files_of_the_folder_are_served_and_none_is_large() -> None:
    """A module that is not listed would be missed by the browser alone. The whole page is small enough to be read."""
    assert {file for file, _ in FILES.values()} == {*HERE.iterdir(), ROOT / "docs/clinicians.md"}
    assert sum(len(file.read_text().splitlines()) for file in HERE.iterdir()) < 1100


@pytest.mark.parametrize(
    "path",
    ["/web", "/web/", "/web/index.html", "/web/../settings.py", "/web/%2e%2e/settings.py", "/web/..%2fapp.py",
     "/web//main.js", "/web/main.js/", "/web/main.js%00", "/web/MAIN.js", "//etc/passwd", "/docs/clinicians.md"],
)  # fmt: skip
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    """Neither by another spelling, nor from another folder."""
    assert client.get(path).status_code == 404


def test_the_files_name_no_other_host_and_set_no_markup() -> None:
    """A page that takes patients' data runs its own code alone, and shows what is sent as text."""
    for file, _ in FILES.values():
        if file.suffix == ".md":
            continue
        text = file.read_text()
        assert set(re.findall(r"https?://[\w./]+", text)) <= {"http://www.w3.org/2000/svg"}, file
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), (
            file
        )
        assert not re.search(r"localStorage|sessionStorage|indexedDB|document\.cookie|pushState|console\.", text), file
        assert not re.search(r"<script>|\son\w+=|\sstyle=", text), file


def test_the_page_is_no_part_of_the_api(client: TestClient) -> None:
    """A client that is generated from the schema has no use for it."""
    assert not {*FILES} & {*client.get("/openapi.json").json()["paths"]}


def test_the_model_card_is_that_of_the_version_that_serves(client: TestClient) -> None:
    """As it lies beside the model file."""
    card = client.get("/model/card")
    version = client.get("/model").json()["version"]
    assert card.headers["content-type"] == "text/markdown; charset=utf-8"
    assert card.content == (MODELS / version / "MODEL_CARD.md").read_bytes()


def test_a_version_without_a_card_says_so(predictor: Predictor, tmp_path: Path) -> None:
    """404, as a problem: a model file may have come here alone."""
    with TestClient(create_app(Settings(models=tmp_path), predictor)) as client:
        refused = client.get("/model/card")
        assert (refused.status_code, refused.headers["content-type"]) == (404, "application/problem+json")
        assert "No model card" in refused.json()["detail"]
