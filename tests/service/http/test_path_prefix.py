"""The service below a path prefix that a proxy strips or passes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from patient.command_line import SettingsError
from patient.record import EXAMPLE
from service.app import create_app, with_middleware
from service.http.api_keys import new_key
from service.model.predictor import Predictor
from service.settings import OWN_SEGMENTS, Settings, read_settings

PATHS = [
    "/",
    "/docs",
    "/openapi.json",
    "/health/live",
    "/web/main.js",
    "/static-offline-docs/swagger-ui.css",
    "/v2",
    "/model",
]


@contextmanager
def served(predictor: Predictor, **settings: object) -> Iterator[TestClient]:
    app = create_app(Settings.model_validate(settings), predictor)
    with TestClient(with_middleware(app), raise_server_exceptions=False) as client:
        yield client


def test_a_prefix_may_be_stripped_or_passed_on(predictor: Predictor) -> None:
    """Every path is found both ways, and no path of another prefix."""
    with served(predictor, root_path="/heart/v1") as client:
        for path in PATHS:
            plain, prefixed = client.get(path), client.get(f"/heart/v1{path}")
            assert (plain.status_code, prefixed.status_code) == (200, 200), path
            assert plain.content == prefixed.content
            assert client.get(f"/heart/v1/heart/v1{path}").status_code == 404
            assert client.get(f"/other{path}").status_code == 404
        assert client.post("/heart/v1/predict", json=EXAMPLE).json() == client.post("/predict", json=EXAMPLE).json()
        assert client.get("/heart/v1", follow_redirects=False).headers["location"] == "/heart/v1/"
        assert client.get("/heart/v1/v2/models/none").json().keys() == {"error"}


def test_docs_links_have_the_prefix_and_the_document_names_it(predictor: Predictor) -> None:
    with served(predictor, root_path="/heart") as client:
        page = client.get("/docs").text
        assert "'/heart/openapi.json'" in page
        assert '"/heart/static-offline-docs/swagger-ui-bundle.js"' in page
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/heart"}]
    with served(predictor) as client:
        assert "servers" not in client.get("/openapi.json").json()


def test_the_header_counts_only_where_it_is_trusted(predictor: Predictor) -> None:
    """And only if it is a path that cannot mean anything else, sent once."""
    good = {"X-Forwarded-Prefix": "/clinic/heart/"}
    with served(predictor) as client:
        assert "clinic" not in client.get("/docs", headers=good).text
        assert client.get("/clinic/heart/docs", headers=good).status_code == 404
    with served(predictor, trust_forwarded_prefix=True, root_path="/heart") as client:
        assert "'/clinic/heart/openapi.json'" in client.get("/docs", headers=good).text
        assert client.get("/clinic/heart/docs", headers=good).status_code == 200
        assert client.get("/openapi.json").json()["servers"] == [{"url": "."}]  # wherever the document is
        for bad in (
            "//evil.example",
            "/a'><script>",
            "https://evil.example/x",
            "/..",
            "/a/../b",
            "/predict",
            "/web",
            "/" + "a/" * 9,
            "",
        ):
            page = client.get("/docs", headers={"X-Forwarded-Prefix": bad}).text
            assert "'/heart/openapi.json'" in page, bad
        twice = [("X-Forwarded-Prefix", "/a"), ("X-Forwarded-Prefix", "/b")]
        assert "'/heart/openapi.json'" in client.get("/docs", headers=twice).text


def test_a_prefix_opens_nothing(predictor: Predictor, tmp_path: Path) -> None:
    """The same paths need a key with a prefix as without, also if the client chooses it."""
    file = tmp_path / "keys"
    file.write_text(new_key("ward-7")[1])
    with served(predictor, keys=file, root_path="/heart", trust_forwarded_prefix=True) as client:
        prefixes = ["/heart", "/web/x", "/health/x", "/docs", "/static-offline-docs", "/x/web", "/x"]
        for path in (
            "/predict",
            "/predict/batch",
            "/explain",
            "/model",
            "/metrics",
            "/v2",
            "/v2/models/heart_disease/infer",
        ):
            for prefix in prefixes:
                for asked in (path, prefix + path, prefix + prefix + path, f"/heart{prefix}{path}", f"/heart{path}"):
                    for method in ("GET", "POST"):
                        answer = client.request(method, asked, headers={"X-Forwarded-Prefix": prefix})
                        assert answer.status_code in (401, 404, 405), (asked, prefix)


@pytest.mark.parametrize("wrong", ["heart", "//x", "/a b", "/<x>", "/..", "/a?b", "/web", "/predict", "/docs/x"])
def test_a_prefix_that_is_none_is_a_setting_error(wrong: str) -> None:
    """The service's own paths among them: a proxy that strips such a one would make two of them equal."""
    with pytest.raises(SettingsError, match=r"root-path.*such as /heart"):
        read_settings({"root_path": wrong})


def test_own_paths_are_known(predictor: Predictor) -> None:
    app = create_app(Settings(), predictor)
    assert {route.split("/")[1] for route in app.state.heart.routes} == OWN_SEGMENTS
