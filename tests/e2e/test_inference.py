"""The unmodified tritonclient gets right results over JSON and binary, sync and asyncio."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as sync
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

from patient.encoding import Floats
from patient.record import FIELDS
from service.model.predictor import Predictor
from service.records.results import rounded
from tests.e2e.serving import serving
from trainer.dataset import Dataset

NAME = "heart_disease"
BINARY = [(True, True), (True, False), (True, None), (False, True), (False, False), (False, None)]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A service with two workers."""
    with serving("--workers", "2") as (port, _):
        yield f"127.0.0.1:{port}"


@pytest.fixture
def client(url: str) -> Iterator[sync.InferenceServerClient]:
    """The synchronous client."""
    with sync.InferenceServerClient(url) as client:
        yield client


def tensors(rows: Floats, binary: bool, by_field: bool = False) -> list[sync.InferInput]:
    """The inputs for float32[N,13], NaN = missing."""
    parts = [(name, rows[:, [i]]) for i, name in enumerate(FIELDS)] if by_field else [("patient", rows)]
    found = []
    for name, part in parts:
        tensor = sync.InferInput(name, list(part.shape), "FP32")
        found.append(tensor.set_data_from_numpy(part, binary_data=binary))
    return found


def outputs(binary: bool | None) -> list[sync.InferRequestedOutput] | None:
    """A request for the output by name; None requests none, and gets all."""
    return None if binary is None else [sync.InferRequestedOutput("probability", binary_data=binary)]


def test_it_finds_server_and_model(client: sync.InferenceServerClient, predictor: Predictor) -> None:
    """Health, metadata and index, which clients read before the first inference."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, predictor.version)
    assert not client.is_model_ready(NAME, "999")
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    described = client.get_model_metadata(NAME)
    assert described["versions"] == [predictor.version]
    assert described["inputs"] == [{"name": "patient", "datatype": "FP32", "shape": [-1, 13]}]
    assert [(model["name"], model["state"]) for model in client.get_model_repository_index()] == [(NAME, "READY")]


@pytest.mark.parametrize("by_field", [False, True])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize(("sent", "asked"), BINARY)
def test_it_gets_the_models_probabilities(
    client: sync.InferenceServerClient,
    predictor: Predictor,
    cleveland: Dataset,
    sent: bool,
    asked: bool | None,
    coding: str | None,
    by_field: bool,
) -> None:
    """Also with missing values, which its JSON writes as NaN."""
    for rows in (cleveland.rows[:1], cleveland.rows):
        answer: Any = client.infer(
            NAME,
            tensors(rows, sent, by_field),
            model_version=predictor.version,
            outputs=outputs(asked),
            request_id="7",
            request_compression_algorithm=coding,
            response_compression_algorithm=coding,
        )
        found = answer.as_numpy("probability")
        assert (found.shape, found.dtype) == ((len(rows), 1), np.float32)
        assert found[:, 0] == pytest.approx(rounded(predictor(rows)), abs=1e-6)
        assert answer.get_response()["id"] == "7"
        assert answer.get_response()["model_version"] == predictor.version


@pytest.mark.parametrize("binary", [True, False])
def test_it_may_send_other_datatypes(
    client: sync.InferenceServerClient, predictor: Predictor, cleveland: Dataset, binary: bool
) -> None:
    """As a data frame's columns have them: integers, booleans, and decimal numbers of 64 bits."""
    rows = cleveland.rows[~np.isnan(cleveland.rows).any(axis=1)]
    other = {"sex": ("BOOL", np.bool_), "oldpeak": ("FP64", np.float64), "ca": ("INT32", np.int32)}
    inputs = []
    for name in FIELDS:
        datatype, kind = other.get(name, ("INT64", np.int64))
        column: Any = rows[:, FIELDS.index(name)].astype(kind)
        inputs.append(sync.InferInput(name, [len(rows)], datatype).set_data_from_numpy(column, binary_data=binary))
    answer: Any = client.infer(NAME, inputs)
    assert answer.as_numpy("probability")[:, 0] == pytest.approx(rounded(predictor(rows)), abs=1e-6)


def test_it_reads_the_models_configuration(client: sync.InferenceServerClient, predictor: Predictor) -> None:
    config = client.get_model_config(NAME, predictor.version)
    assert config == client.get_model_config(NAME)
    assert config["input"] == [{"name": "patient", "data_type": "TYPE_FP32", "dims": [13]}]


def test_a_hundred_thousand_patients_come_back_in_order(
    client: sync.InferenceServerClient, predictor: Predictor, cleveland: Dataset
) -> None:
    """More than a JSON body may hold, as a binary tensor."""
    rows = np.resize(cleveland.rows, (100_000, 13))
    found: Any = client.infer(NAME, tensors(rows, True)).as_numpy("probability")
    assert found[:, 0] == pytest.approx(rounded(predictor(rows)), abs=1e-6)


def test_its_exceptions_have_the_services_error_texts(client: sync.InferenceServerClient, cleveland: Dataset) -> None:
    """For small and large requests, and the connection stays usable."""
    for count in (1, 100_000):
        rows = np.resize(cleveland.rows, (count, 13)).copy()
        rows[0, FIELDS.index("chol")] = 12345
        with pytest.raises(InferenceServerException, match="row 0, chol: Serum cholesterol must be") as caught:
            client.infer(NAME, tensors(rows, True))
        assert caught.value.status() == "400"
        with pytest.raises(InferenceServerException, match="no such version") as caught:
            client.infer(NAME, tensors(rows, True), model_version="999")
        assert caught.value.status() == "404"
    assert client.infer(NAME, tensors(cleveland.rows, True))


def test_the_asyncio_client_gets_the_same(url: str, predictor: Predictor, cleveland: Dataset) -> None:
    """Many requests at once, of one row and of many."""

    async def ask() -> list[Floats]:
        async with aio.InferenceServerClient(url) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready(NAME)
            assert (await client.get_model_metadata(NAME))["name"] == NAME
            asked = [
                client.infer(NAME, tensors(cleveland.rows[start:], sent), outputs=outputs(binary))
                for sent, binary in BINARY
                for start in (0, 302)
            ]
            return [answer.as_numpy("probability")[:, 0] for answer in await asyncio.gather(*asked)]

    expected = rounded(predictor(cleveland.rows))
    for found in asyncio.run(ask()):
        assert found == pytest.approx(expected[-len(found) :], abs=1e-6)
