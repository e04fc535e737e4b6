"""Tables whose first line is no header of ours: the error names the cause and repeats nothing of the line."""

import gzip
import io
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heart import heart
from patient.record import EXAMPLE, FIELDS
from service.client import Client
from service.records.errors import RecordError
from service.tables import csv
from service.tables.formats import FORMATS
from service.tables.source import Limits
from tests.service.tables.conftest import Pieces
from trainer.readers import DatasetError, open_tables

HEADER = ",".join(FIELDS)
ROW = ",".join(str(EXAMPLE[name]) for name in FIELDS)
SECRET = "Zq^Jane"
SECRETS = (SECRET, SECRET.lower(), "98765.4321")
PATIENT = f"{SECRET},98765.4321,{ROW}"

CAUSES: dict[str, tuple[str | bytes, str]] = {
    "no header": (f"{PATIENT}\n{PATIENT}\n", "The table has no header"),
    "no header, numbers": (f"{ROW}\n{ROW}\n", "The table has no header"),
    "semicolons": (f"{HEADER},{SECRET}\n{ROW},{SECRET}\n".replace(",", ";"), "Column 14: not in a patient record"),
    "semicolons, no header": (f"{PATIENT}\n".replace(",", ";"), "The table has no header"),
    "sep=, no header": (f"sep=;\n{PATIENT}\n".replace(",", ";"), "The table has no header"),
    "tabs, a few names": (f"age\tsex\t{SECRET}\n{ROW}\n", "names 2 of the 13 fields"),
    "an index, no header": (f",{PATIENT}\n", "The table has no header"),
    "spaces": (f"{HEADER}\n{ROW}\n".replace(",", "  "), "separated by spaces"),
    "bars": (f"{PATIENT}\n".replace(",", "|"), "separated by vertical bars"),
    "no line ends": (f"{HEADER}{PATIENT}{PATIENT}", "has no line ends. `curl -d` removes them"),
    "no line ends, no header": (PATIENT * 3, "has no line ends"),
    "a wide header alone": (f"{HEADER.replace('chol', SECRET)}{',x' * 20}", "chol: Serum cholesterol is missing"),
    "prose": (f"{SECRET}, " * 30, "The table has no header"),
    "few names": (f"age,{SECRET},sex\n63,1,1\n", "names 2 of the 13 fields; these are missing: cp, trestbps"),
    "a wrong name": (f"{HEADER.replace('chol', SECRET)}\n", "chol: Serum cholesterol is missing; Column 5: not in a"),
    "others": (f"{HEADER},{SECRET},98765.4321\n", "Columns 14, 15: not in a patient record; name in `keep`"),
    "many others": (f"{HEADER},{','.join(f'{SECRET}{i}' for i in range(500))}\n", "22, 23 and 490 more: not in a"),
    "twice": (f"{HEADER},{SECRET},{SECRET}\n", "Columns 14, 15: the name occurs twice"),
    "gzip": (gzip.compress(PATIENT.encode()), "compressed by gzip: say so in Content-Encoding"),
    "xlsx": (b"PK\x03\x04" + PATIENT.encode(), "a workbook (.xlsx)"),
    "UTF-16": (PATIENT.encode("utf-16"), "UTF-16 text"),
    "UTF-16, no mark": (f"{HEADER}\n{PATIENT}".encode("utf-16-le"), "UTF-16 text"),
    "Windows-1252": (f"{HEADER},{SECRET} \xe9\n{PATIENT}\n".encode("cp1252"), "probably Windows-1252 or Latin-1"),
    "Parquet": (b"PAR1" + PATIENT.encode(), "a Parquet file"),
}


@pytest.mark.parametrize(("table", "cause"), CAUSES.values(), ids=CAUSES)
def test_the_cause_is_named_and_nothing_repeated(table: str | bytes, cause: str) -> None:
    body = table.encode() if isinstance(table, str) else table
    with pytest.raises(RecordError) as caught:
        csv.read(io.BytesIO(body), (), Limits())
    assert cause in str(caught.value)
    assert not any(secret in str(caught.value) for secret in SECRETS)


QUOTED = ",".join(f'"{name}"' for name in FIELDS)


@pytest.mark.parametrize("header", [HEADER.upper(), HEADER.replace(",", " , "), HEADER.title(), QUOTED.upper()])
def test_names_of_fields_are_trimmed_and_their_case_is_ignored(header: str) -> None:
    table = csv.read(io.BytesIO(f"{header}\n{ROW}\n".encode()), (), Limits())
    assert [len(chunk) for chunk in table.chunks] == [1]


def test_only_the_first_bytes_of_a_table_tell_another_format() -> None:
    """Rows may begin with anything, also at the beginning of a block."""
    pieces = Pieces([f"note,{HEADER}\n".encode(), *[f"PAR1,{ROW}\n".encode()] * 2])
    table = csv.read(pieces, ("note",), Limits())
    assert sum(len(chunk) for chunk in table.chunks) == 2


CELLS = st.sampled_from([*SECRETS, f'"{SECRET}"', f"{SECRET} x", "63", "1.0", "2,3", "", "?", *FIELDS])
LINES = st.builds(
    lambda start, cells, separator, rest: start + separator.join(cells) + rest,
    st.sampled_from(["", "sep=;\n", f"# {SECRET}\n", ",,,\n", f"{SECRET}\n"]),
    st.lists(CELLS, min_size=1, max_size=30) | st.lists(CELLS, max_size=3).map(lambda cells: ["", *FIELDS, *cells]),
    st.sampled_from([",", ";", "\t", " ", "|", "\0", ""]),
    st.sampled_from(["", "\n", f"\n{PATIENT}\n", f"\r{PATIENT}", f"{PATIENT}\n", '"', "\n\xff", "\n,,,,,\n"]),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    LINES, st.sampled_from(["", "&keep=*", "&keep=ward"]), st.sampled_from(["cp1252", "utf-8", "utf-16", "utf-16-be"])
)
def test_no_first_line_comes_back(
    client: TestClient, caplog: pytest.LogCaptureFixture, line: str, keep: str, encoding: str
) -> None:
    """Neither in a response nor in the log, whatever format and route the line is sent to."""
    body = line.encode(encoding)
    caplog.set_level(logging.DEBUG)
    routes = [("/predict/batch?on_error=refuse" + keep, format_.media_type) for format_ in FORMATS]
    routes += [(path, "application/json") for path in ("/predict", "/explain", "/v2/models/heart_disease/infer")]
    for path, kind in routes:
        response = client.post(path, content=body, headers={"Content-Type": kind})
        assert not any(secret in str(response.headers) + caplog.text for secret in SECRETS)
        if response.status_code == 200:
            continue  # all fields are named: what passes through is asked for
        assert 400 <= response.status_code < 500
        assert not any(secret in response.text for secret in SECRETS)


def test_names_of_parquet_columns_are_not_repeated(client: TestClient) -> None:
    """pandas takes the first line of a table without a header for names."""
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({name: ["1"] for name in [*SECRETS, "63", "1.0"]}), sink)
    response = client.post(
        "/predict/batch", content=sink.getvalue(), headers={"Content-Type": "application/vnd.apache.parquet"}
    )
    assert response.status_code == 422
    assert "The table has no header" in response.text
    assert not any(secret in response.text for secret in SECRETS)


def test_commands_and_trainer_repeat_nothing_of_a_first_line(tmp_path: Path) -> None:
    table = tmp_path / "in.csv"
    for text, _ in CAUSES.values():
        table.write_bytes(text.encode() if isinstance(text, str) else text)
        result = CliRunner().invoke(heart, ["score", str(table), str(table.with_name("out.csv"))])
        assert result.exit_code
        with pytest.raises(DatasetError) as caught:
            open_tables(table)
        assert not any(secret in result.output + str(caught.value) for secret in SECRETS)


def test_text_given_to_the_client_for_a_path_is_not_repeated() -> None:
    with Client("http://127.0.0.1:1") as client:
        for text in (PATIENT, f"{HEADER}\n{PATIENT}\n", PATIENT * 100, f"{SECRET}\0", f"/dev/null/{SECRET}"):
            with pytest.raises(FileNotFoundError) as caught:
                client.score(text, kind="csv")
            assert "send a table itself as bytes" in str(caught.value)
            assert SECRET not in repr(caught.value)
        with pytest.raises(FileNotFoundError, match=r"absent\.csv"):
            client.score(Path("absent.csv"))
