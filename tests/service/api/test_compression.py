"""Compressed bodies of /predict and /explain: what gzip and deflate hold is read, within the limits."""

import gzip
import json
import zlib
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from patient.record import EXAMPLE
from service.http.body import RECORD_ENCODINGS as ENCODINGS
from service.records.decoding import MAX_RECORD_BYTES
from tests.service.http.test_problems import problem

CONTENT = json.dumps(EXAMPLE).encode()
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "X-GZip": gzip.compress,
    "deflate": zlib.compress,
    "Gzip": lambda content: gzip.compress(content[:7]) + gzip.compress(b"") + gzip.compress(content[7:]),
    "identity": lambda content: content,
}
routes = pytest.mark.parametrize("path", ["/predict", "/explain"])


def headers(encoding: str) -> dict[str, str]:
    return {"Content-Type": "application/json", "Content-Encoding": encoding}


@routes
@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_compressed_record_gets_the_same_answer(client: TestClient, path: str, encoding: str) -> None:
    content = COMPRESS[encoding](CONTENT)
    response = client.post(path, content=content, headers=headers(encoding))
    assert response.status_code == 200, response.text
    assert response.json() == client.post(path, json=EXAMPLE).json()


@routes
@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "identity, gzip", "*"])
def test_another_coding_is_415_and_names_those_that_are_taken(client: TestClient, path: str, encoding: str) -> None:
    """In the detail and in Accept-Encoding (RFC 9110, section 12.5.3)."""
    response = client.post(path, content=CONTENT, headers=headers(encoding))
    details = problem(response, 415)
    assert response.headers["accept-encoding"] == ", ".join(ENCODINGS)
    assert all(name in details.detail for name in ENCODINGS)


@routes
def test_two_headers_of_codings_are_one_list(client: TestClient, path: str) -> None:
    twice = [("Content-Type", "application/json"), ("Content-Encoding", "gzip"), ("Content-Encoding", "gzip")]
    problem(client.post(path, content=gzip.compress(gzip.compress(CONTENT)), headers=twice), 415)


@routes
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_is_413(client: TestClient, path: str, encoding: str) -> None:
    """Some kilobytes that decompress to a hundred megabytes."""
    bomb = COMPRESS[encoding](b" " * 10_000_000)
    assert len(bomb) <= MAX_RECORD_BYTES
    details = problem(client.post(path, content=bomb, headers=headers(encoding)), 413)
    assert str(MAX_RECORD_BYTES) in details.detail


@routes
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_damaged_data_are_400(client: TestClient, path: str, encoding: str) -> None:
    """Not compressed, and cut off."""
    for content in (CONTENT, COMPRESS[encoding](CONTENT)[:-9]):
        assert "damaged" in problem(client.post(path, content=content, headers=headers(encoding)), 400).detail
