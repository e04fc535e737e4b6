"""A table in Kaggle's codes over HTTP: 422 in every format and mode, with the way to convert it."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from patient.record import EXAMPLE, FIELDS
from service.tables.formats import CSV, FORMATS, Format
from tests.kaggle import SENTENCE, as_csv, kaggles, ours
from tests.service.http.test_problems import problem
from tests.service.tables.conftest import each, packed

KAGGLE = [{name: row[name] for name in FIELDS} for row in kaggles()]
TABLE = pa.Table.from_pylist(KAGGLE)


def post(client: TestClient, content: Any, query: str, format_: Format, answer: Format | None = None) -> Any:
    headers = {"Content-Type": format_.media_type, "Accept": (answer or format_).media_type}
    return client.post(f"/predict/batch{query}", content=content, headers=headers)


@each
@pytest.mark.parametrize("query", ["", "?on_error=report", "?on_error=refuse"])
def test_kaggles_table_is_422(client: TestClient, format_: Format, query: str) -> None:
    """Whatever the format of the response would have been."""
    for answer in FORMATS:
        response = post(client, packed(format_, TABLE), query, format_, answer)
        found = problem(response, 422)
        assert found.detail.startswith(f"{SENTENCE}: see cp, slope, ca and thal in 267 of its first 303 rows.")
        assert "`heart convert IN.csv OUT.csv`" in found.detail
        assert "docs/codebook.md" in found.detail
        assert found.errors is None


def test_kaggles_file_as_it_is_downloaded(client: TestClient) -> None:
    """A byte order mark, the target kept; and after the conversion the rows have a number."""
    text = "\ufeff" + as_csv(kaggles())
    assert post(client, text.encode(), "?keep=*&on_error=report", CSV).status_code == 422
    response = post(client, as_csv(ours()).encode(), "?keep=*&on_error=report", CSV)
    assert response.status_code == 200
    assert response.text.count(",true,") + response.text.count(",false,") == 303


def test_an_array_with_the_target_in_its_records(client: TestClient) -> None:
    """As a data frame writes it."""
    for query in ("", "?on_error=report"):
        response = client.post(f"/predict/batch{query}", json=kaggles())
        assert problem(response, 422).detail.startswith(SENTENCE)


def test_explanations_and_tensors_are_refused_too(client: TestClient) -> None:
    """Of several records; a single one is judged by its cells alone."""
    response = client.post("/explain", json=KAGGLE[:16])
    assert problem(response, 422).detail.startswith(SENTENCE)
    values = np.array([[row[name] for name in FIELDS] for row in KAGGLE])
    for rows in (values, values[:16]):
        tensor = {"name": "patient", "shape": rows.shape, "datatype": "FP32", "data": rows.tolist()}
        response = client.post("/v2/models/heart_disease/infer", json={"inputs": [tensor]})
        assert response.status_code == 400
        assert response.json()["error"].startswith(SENTENCE)
    single = EXAMPLE | {"cp": 0, "slope": 1, "thal": 3}
    assert client.post("/predict", json=single).json()["missing"] == ["cp"]
    response = client.post("/predict", json=single | {"thal": 2})
    assert [error.pointer for error in problem(response, 422).errors or ()] == ["/thal"]
