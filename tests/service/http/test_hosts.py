"""A local service without keys answers to the names of this machine only; --allowed-hosts adds others."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from patient.command_line import SettingsError
from patient.record import EXAMPLE, FIELDS
from service.app import create_app, with_middleware
from service.http.hosts import accepted_hosts, host_problem
from service.model.predictor import Predictor
from service.settings import Settings, read_settings

LOCAL = ["localhost", "LocalHost:8000", "a.localhost.", "127.0.0.1:1", "127.9.9.9", "[::1]:8000", "[0:0:0:0:0:0:0:1]"]
FOREIGN = ["evil.example:8000", "127.0.0.1.evil.example", "notlocalhost", "localhost.evil.example", "0.0.0.0", ""]


def status(value: str, **settings: object) -> int:
    problem = host_problem(accepted_hosts(read_settings(settings)), value.encode())
    return problem.status if problem else 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_without_keys_a_local_service_takes_local_names_only(host: str) -> None:
    assert {status(value, host=host) for value in LOCAL} == {200}
    assert {status(value, host=host) for value in FOREIGN} == {421}


@pytest.mark.parametrize(
    "settings", [{"host": "0.0.0.0", "open_to_network": True}, {"keys": "keys"}, {"allowed_hosts": ("*",)}], ids=str
)
def test_others_take_any_name(settings: dict[str, object]) -> None:
    """Behind a proxy, in a container, or where a page could send no key."""
    assert {status(value, **settings) for value in LOCAL + FOREIGN} == {200}


def test_allowed_hosts_are_names_and_wildcards() -> None:
    """They also hold for a service that would otherwise take any."""
    settings = {"host": "0.0.0.0", "allowed_hosts": ("Heart.example,*.ward.example,[fd00::1],10.0.0.9",)}
    for value in [*LOCAL, "heart.example", "HEART.example:8000", "a.b.ward.example", "[FD00::1]:80", "10.0.0.9:8000"]:
        assert status(value, **settings) == 200, value
    for value in [*FOREIGN, "a.heart.example", "ward.example", "evilward.example", "[fd00::2]"]:
        assert status(value, **settings) == 421, value


@pytest.mark.parametrize("value", ["a b", "http://localhost", "localhost:x", "a@localhost", "::1", "localhost, b"])
def test_what_is_no_host_is_invalid_everywhere(value: str) -> None:
    assert status(value) == status(value, allowed_hosts=("*",)) == 400


@pytest.mark.parametrize("host", ["heart.example:8000", "http://heart.example", "*example", "a.*.b", "", "a/b"])
def test_an_invalid_setting_is_named(host: str) -> None:
    with pytest.raises(SettingsError, match="--allowed-hosts or HEART_ALLOWED_HOSTS"):
        read_settings({"allowed_hosts": (host,)})


@pytest.mark.parametrize(
    ("chosen", "site", "expected"),
    [
        ({}, "cross-site", 403),
        ({}, "same-site", 200),
        ({}, "same-origin", 200),
        ({}, "none", 200),
        ({"cors_origins": ["https://a.example"]}, "cross-site", 200),
        ({"host": "0.0.0.0", "open_to_network": True}, "cross-site", 200),
    ],
)
def test_a_page_of_another_site_cannot_send_tables_to_a_local_service(
    predictor: Predictor, chosen: dict[str, Any], site: str, expected: int
) -> None:
    """A form with a file, which a browser sends without asking first. A link to the service's page works."""
    app = create_app(Settings().model_copy(update=chosen), predictor)
    with TestClient(with_middleware(app)) as client:
        header = {"Sec-Fetch-Site": site}
        table = ("p.csv", f"{','.join(FIELDS)}\n{','.join(str(EXAMPLE[name]) for name in FIELDS)}\n")
        assert client.post("/predict/batch", files={"file": table}, headers=header).status_code == expected
        assert client.get("/", headers=header).status_code == 200
