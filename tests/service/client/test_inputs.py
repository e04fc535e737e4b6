"""Records and tables from whatever Python holds them in."""

import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pytest

from patient.record import EXAMPLE, PatientRecord
from service.client import Client, InvalidRecord
from tests.service.client.test_client import HEAD, ROW, client, port

__all__ = ["client", "port"]  # fixtures

RECORDS = [EXAMPLE, EXAMPLE | {"ca": None, "age": 40}, EXAMPLE | {"thal": None, "oldpeak": 1.5}]
FRAMES: list[Callable[[list[dict[str, Any]]], Any]] = [
    pd.DataFrame,
    lambda rows: pd.DataFrame(rows, index=[7, 8, 9]).convert_dtypes(),
    lambda rows: pd.DataFrame(rows).astype("Int64", errors="ignore"),
    pl.DataFrame,
    pa.Table.from_pylist,
]
each = pytest.mark.parametrize("frame", FRAMES, ids=["pandas", "nullable", "integers", "polars", "pyarrow"])


def probabilities(client: Client) -> list[float]:
    return [one.probability for one in client.predict_batch(RECORDS).predictions]


@each
def test_frames_are_batches(client: Client, frame: Callable[[Any], Any]) -> None:
    """In order, without an index; NaN, NA and null mean that a measurement was not taken."""
    found = client.predict_batch(frame(RECORDS))
    assert [one.probability for one in found.predictions] == probabilities(client)
    assert [one.missing for one in found.predictions] == [[], ["ca"], ["thal"]]


@each
def test_frames_are_tables(client: Client, frame: Callable[[Any], Any]) -> None:
    """With kept columns, in any output format; an invalid row is refused unless it is to be reported."""
    rows = [row | {"mrn": f"m{i}"} for i, row in enumerate(RECORDS)]
    with client.score(frame(rows), keep="mrn", to="csv") as results:
        scored = pd.read_csv(results)
    assert scored["mrn"].tolist() == ["m0", "m1", "m2"]
    assert scored["probability"].tolist() == probabilities(client)
    bad = frame([*RECORDS[:2], EXAMPLE | {"chol": 5}])
    with pytest.raises(InvalidRecord):
        client.score(bad).read()
    with client.score(bad, on_error="report") as results:
        assert [json.loads(line).get("error") is None for line in results][:3] == [True, True, False]


def test_a_frame_of_many_rows_is_sent_in_parts(client: Client) -> None:
    frame = pl.DataFrame(RECORDS * 10_001)
    with client.score(frame, to="csv") as results:
        assert pd.read_csv(results)["probability"].tolist() == probabilities(client) * 10_001


def test_records_are_mappings_of_any_numbers_or_json(client: Client) -> None:
    """Decimals, numpy's scalars, text and bytes of JSON."""
    expected = client.predict(EXAMPLE)
    for record in (
        {name: Decimal(str(value)) for name, value in EXAMPLE.items()},
        {name: np.float32(value) if name == "age" else value for name, value in EXAMPLE.items()},
        PatientRecord(**EXAMPLE),
        json.dumps(EXAMPLE),
        json.dumps(EXAMPLE).encode(),
    ):
        assert client.predict(record) == expected
        assert client.predict_batch([record]).predictions[0].probability == expected.probability
    for records in (json.dumps(RECORDS), json.dumps(RECORDS).encode(), iter(RECORDS)):
        assert [one.probability for one in client.predict_batch(records).predictions] == probabilities(client)


def test_tables_are_text_files_and_iterables_of_records_or_text(client: Client) -> None:
    text = HEAD + ROW * 3
    for table in (io.StringIO(text), io.BytesIO(text.encode()), [HEAD, ROW, ROW, ROW], (b"", text.encode())):
        with client.score(table, kind="csv") as results:
            assert len(results.readlines()) == 4
    for records in (RECORDS, iter(RECORDS), [PatientRecord(**EXAMPLE)] * 3):
        with client.score(records) as results:
            assert len(results.readlines()) == 3


@pytest.mark.parametrize("record", [["SURNAME"], {"age": {"SURNAME"}}])
def test_what_is_no_record_is_a_type_error(client: Client, record: Any) -> None:
    """It names the type and not the value."""
    with pytest.raises(TypeError) as caught:
        client.predict(record)
    assert "SURNAME" not in str(caught.value)


def test_text_is_told_from_a_path_and_not_repeated(client: Client) -> None:
    tables: list[tuple[Any, str | None, type[Exception]]] = [
        (HEAD + ROW, None, ValueError),
        (HEAD + ROW, "csv", FileNotFoundError),
        (RECORDS, "csv", ValueError),
    ]
    for table, kind, error in tables:
        with pytest.raises(error) as caught:
            client.score(table, kind=kind)
        assert "63" not in str(caught.value)
