"""NDJSON and arrays of JSON: encodings, and bounds on the work for one record."""

import json

import pytest

from patient.record import EXAMPLE
from service.model.predictor import Predictor
from service.records.decoding import MAX_RECORD_VALUES
from service.records.errors import MAX_LISTED_ERRORS, ColumnsError, TableError, TooLarge
from service.tables.formats import JSON, NDJSON, Format
from service.tables.json import MAX_KEPT, MAX_LINE_BYTES
from tests.service.tables.conftest import LINE, through, unpacked


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_lines_in_any_encoding_of_json_are_read(predictor: Predictor, encoding: str, size: int) -> None:
    """PowerShell's `>` writes UTF-16. The pieces in which it arrives do not matter."""
    lines = [json.dumps(EXAMPLE | {"mrn": f"Nº {i} 😀"}, ensure_ascii=False) + "\r\n" for i in range(3)]
    content = "".join(lines).encode(encoding)
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    answer, tally = through(NDJSON, pieces, predictor, keep=["*"])
    assert (tally.rows, tally.bad) == (3, 0)
    assert [row["mrn"] for row in unpacked(NDJSON, answer)] == ["Nº 0 😀", "Nº 1 😀", "Nº 2 😀"]


@pytest.mark.parametrize("content", [b"\xff\xfe" + LINE[:-1], b"\xfe\xff\xd8\x00\x00\n", b"\xff\xfe\0\0" + LINE])
def test_lines_in_a_broken_encoding_are_refused_with_the_cause(predictor: Predictor, content: bytes) -> None:
    with pytest.raises(TableError, match=r"UTF-(16|32)"):
        through(NDJSON, content, predictor)


UNKNOWN = ",".join(f'"{i:x}": 0' for i in range(5000))


@pytest.mark.parametrize("format_", [NDJSON, JSON], ids=["lines", "array"])
@pytest.mark.parametrize(
    ("record", "errors"),
    [
        (LINE[:-1].decode() + "," + UNKNOWN + "}", MAX_LISTED_ERRORS + 1),
        ("{" + ",".join(['"age": 63'] * 10_000) + "}", 12),
        (LINE[:-1].decode() + ',"x":{' + ",".join(['"a":1'] * MAX_RECORD_VALUES) + "}}", 1),
        ("{" + ",".join(f'"{i:x}":0' for i in range(90_000)) + "}", 1),
        ("[" + ",".join(["[]"] * 300_000) + "]", 1),
    ],
    ids=["unknown keys", "one key", "values in an unknown key", "too many keys", "arrays"],
)
def test_the_errors_of_a_row_are_bounded(predictor: Predictor, format_: Format, record: str, errors: int) -> None:
    """Its neighbours stay valid."""
    lines = [LINE.decode(), record, LINE.decode()]
    content = "\n".join(lines) if format_ is NDJSON else f"[{','.join(lines)}]"
    answer, tally = through(format_, content.encode(), predictor)
    rows = unpacked(format_, answer)
    assert [row["error"] is None for row in rows] == [True, False, True]
    assert (tally.bad, tally.total) == (1, errors)


def test_a_kept_value_of_any_size_passes_through(predictor: Predictor) -> None:
    """The bound on values is for records that are invalid."""
    note = ",[{:" * 20_000
    answer, tally = through(NDJSON, json.dumps(EXAMPLE | {"note": note}).encode(), predictor, keep=["*"])
    assert (tally.bad, unpacked(NDJSON, answer)[0]["note"]) == (0, note)


@pytest.mark.parametrize("format_", [NDJSON, JSON], ids=["lines", "array"])
def test_more_columns_than_can_be_kept_are_refused(predictor: Predictor, format_: Format) -> None:
    """A decoder for 380,000 columns takes twenty seconds to build."""
    record = EXAMPLE | dict.fromkeys(map(str, range(MAX_KEPT + 1)), 0)
    content = json.dumps(record if format_ is NDJSON else [record]).encode()
    with pytest.raises(ColumnsError, match=str(MAX_KEPT)):
        through(format_, content, predictor, keep=["*"])


@pytest.mark.parametrize("format_", [NDJSON, JSON], ids=["lines", "array"])
def test_a_record_beyond_the_limit_is_refused(predictor: Predictor, format_: Format) -> None:
    content = json.dumps([EXAMPLE | {"note": "x" * MAX_LINE_BYTES}]).encode()
    with pytest.raises(TooLarge, match=str(MAX_LINE_BYTES)):
        through(format_, content[1:-1] if format_ is NDJSON else content, predictor, keep=["*"])
