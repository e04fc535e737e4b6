"""Tables in every format, read, scored and written."""

import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from patient.record import EXAMPLE, FIELDS
from service.model.predictor import Predictor
from service.records.errors import Tally
from service.records.results import rounded
from service.tables import columns, formats
from service.tables.chunk import Table
from service.tables.formats import ARROW, CSV, FORMATS, JSON, NDJSON, PARQUET, Format
from service.tables.scoring import Scorer, result_schema, score
from service.tables.source import Limits, open_source
from trainer.dataset import Dataset

LINE = json.dumps(EXAMPLE).encode()
HEADER = ",".join(FIELDS).encode()
CELLS = ",".join(str(EXAMPLE[name]) for name in FIELDS).encode()
each = pytest.mark.parametrize("format_", FORMATS, ids=lambda f: f.media_type.rpartition("/")[2])


@pytest.fixture(scope="module")
def table(cleveland: Dataset) -> pa.Table:
    """The 303 records with shuffled columns and two additional ones."""
    fields = {
        name: pa.array(column.astype(float), from_pandas=True)
        for name, column in zip(FIELDS, cleveland.rows.T, strict=True)
    }
    shuffled = dict(sorted(fields.items()))
    return pa.table(
        {"mrn": [f"Nº {i}" for i in range(303)], **shuffled, "a,b": [None if i % 7 else f'"{i}\n' for i in range(303)]}
    )


def packed(format_: Format, table: pa.Table, rows: int = 1000) -> bytes:
    """Encode a typed table in this format; NDJSON and CSV as other software writes them."""
    out = io.BytesIO()
    if format_ is ARROW:
        with pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
    elif format_ is PARQUET:
        pa.parquet.write_table(table, out, row_group_size=rows)
    elif format_ is CSV:
        pa.csv.write_csv(table, out)
    elif format_ is JSON:
        out.write(json.dumps(table.to_pylist()).encode())
    else:
        out.write("".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode())
    return out.getvalue()


def unpacked(format_: Format, body: bytes) -> list[dict[str, Any]]:
    """Decode results to rows."""
    if format_ is ARROW:
        return list(pa.ipc.open_stream(body).read_all().to_pylist())
    if format_ is PARQUET:
        return list(pa.parquet.read_table(io.BytesIO(body)).to_pylist())
    if format_ is JSON:
        answers: list[dict[str, Any]] = json.loads(body)["predictions"]
        return answers
    if format_ is NDJSON:
        return [json.loads(line) for line in body.splitlines()]
    read = pa.csv.read_csv(io.BytesIO(body), parse_options=pa.csv.ParseOptions(newlines_in_values=True))
    rows: list[dict[str, Any]] = read.to_pylist()
    return [row | {"missing": row["missing"].split(";") if row["missing"] else []} for row in rows]


class Pieces:
    """A source that returns one given piece per read."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces, self.rest = iter(pieces), b""

    def read(self, size: int, /) -> bytes:
        while not self.rest:
            piece = next(self.pieces, None)
            if piece is None:
                return b""
            self.rest = piece
        out, self.rest = self.rest[:size], self.rest[size:]
        return out


DEFAULT_LIMITS = Limits()


def through(
    source: Format,
    body: bytes | Iterable[bytes],
    model: Predictor,
    *,
    report: bool = True,
    keep: Sequence[str] = (),
    answer: Format | None = None,
    limits: Limits = DEFAULT_LIMITS,
    packing: str | None = None,
) -> tuple[bytes, Tally]:
    """Read, score and write a body; return the results and the counts."""
    pieces = Pieces([body] if isinstance(body, bytes) else body)
    names = columns.parse_keep(",".join(keep))
    table = source.read(open_source(pieces, packing, limits), names, limits)
    tally = Tally()
    scorer, schema = scorer_of(model), schema_of(table, model, report)
    written = (answer or source).write(schema, score(table.chunks, scorer, schema, tally), names)
    return b"".join(bytes(piece) for piece in written), tally


def scorer_of(model: Predictor) -> Scorer:
    return Scorer(model.version, model.metadata.threshold, lambda columns: rounded(model.predict_columns(columns)))


def schema_of(table: Table, model: Predictor, report: bool) -> pa.Schema:
    return result_schema(table.kept, model.version, model.metadata.threshold, report)


FORMATS = formats.FORMATS
