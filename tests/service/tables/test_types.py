"""Kept columns of every Arrow type, in every output format."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from patient.record import EXAMPLE
from service.model.predictor import Predictor
from service.tables.formats import ARROW, FORMATS, PARQUET, Format
from tests.service.tables.conftest import packed, through, unpacked


def table_with(column: pa.Array, field: pa.Field | None = None) -> pa.Table:
    """The example record once per value of a column `note`."""
    rows = pa.Table.from_pylist([dict(EXAMPLE)] * len(column))
    return rows.append_column(field or "note", column)


typed = pytest.mark.parametrize("format_", [ARROW, PARQUET], ids=["arrow", "parquet"])


@typed
@pytest.mark.parametrize(
    "metadata", [{"json": "1"}, {"json": "", "ARROW:extension:name": "json"}], ids=["json", "both"]
)
def test_the_senders_metadata_do_not_make_text_json(
    predictor: Predictor, format_: Format, metadata: dict[str, str]
) -> None:
    """A kept text that looks like the end of one result and the beginning of another stays one row's text."""
    text = 'null,"probability":0.01,"heart_disease":false,"missing":[],"error":null}\n{"note":1'
    table = table_with(pa.array([text]), pa.field("note", pa.string(), metadata=metadata))
    for answer in FORMATS:
        body, _ = through(format_, packed(format_, table), predictor, keep=["note"], answer=answer)
        rows = unpacked(answer, body)
        assert [row["note"] for row in rows] == [text]
        assert rows[0]["probability"] > 0.1


@typed
def test_no_metadata_of_the_sender_are_in_the_results(predictor: Predictor, format_: Format) -> None:
    """Neither a field's nor the schema's; the model's version and threshold are."""
    field = pa.field("note", pa.string(), metadata={"from": "sender"})
    table = table_with(pa.array(["x"]), field).replace_schema_metadata({"model_version": "0", "from": "sender"})
    body, _ = through(format_, packed(format_, table), predictor, keep=["note"], answer=ARROW)
    schema = pa.ipc.open_stream(body).schema
    assert schema.field("note").metadata is None
    assert schema.metadata[b"model_version"].decode() == predictor.version
    assert set(schema.metadata) == {b"model_version", b"threshold"}


def test_a_kept_column_may_have_nulls_whatever_its_sender_declares(predictor: Predictor) -> None:
    """An Arrow stream may have them in a column that is declared to have none."""
    table = table_with(pa.array(["x", None]), pa.field("note", pa.string(), nullable=False))
    for answer in FORMATS:
        body, _ = through(ARROW, packed(ARROW, table), predictor, keep=["note"], answer=answer)
        assert [row["note"] or None for row in unpacked(answer, body)] == ["x", None]
