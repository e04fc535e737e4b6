"""Tables as files, and the command run on them."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from patient.record import measurements
from service.cli.score.command import score as command
from service.cli.score.job import Kind
from service.tables.formats import ARROW, CSV, JSON, NDJSON, PARQUET
from tests.conftest import ROOT

KINDS = ["csv", "csv.gz", "ndjson", "jsonl.zst", "json", "arrows", "arrow", "feather", "parquet", "parquet.gz"]


def patients(rows: int, seed: int = 0) -> pa.Table:
    """Patients that never were, a tenth of the cells not taken; `mrn` counts them, and `ward` may hold anything."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {"mrn": pa.array(range(rows), pa.int64())}
    for field in measurements():
        low, high = field.low, field.high
        numbers = rng.choice([*field.codes], rows) if field.codes else rng.uniform(low, high, rows).round(1)
        nothing = rng.random(rows) < 0.1 if field.nullable else None
        columns[field.name] = pa.array(numbers, pa.int8() if field.codes else pa.float64(), mask=nothing)
    columns["ward"] = pa.array(np.array(["north", 'the "old" one, ground floor', ""])[rng.integers(0, 3, rows)])
    return pa.table(columns)


def write(path: Path, table: pa.Table) -> Path:
    """A table as a file of the kind that its name tells, as others write it."""
    kind = Kind.of(path.name)
    assert kind
    out = io.BytesIO()
    if kind.format is CSV:
        pa.csv.write_csv(table, out)
    elif kind.format is PARQUET:
        pa.parquet.write_table(table, out, row_group_size=1000)
    elif kind.format is NDJSON:
        out.write("".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode())
    elif kind.format is JSON:
        out.write(json.dumps(table.to_pylist()).encode())
    else:
        new = pa.ipc.new_stream if kind.name == "arrows" else pa.ipc.new_file
        with new(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=1000)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, pa.output_stream(file, compression=kind.compression) as stream:
        stream.write(out.getvalue())
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The answers in a file as rows."""
    kind = Kind.of(path.name)
    assert kind
    with path.open("rb") as file, pa.input_stream(file, compression=kind.compression) as stream:
        content = stream.read()
    if kind.format is PARQUET:
        return list(pa.parquet.read_table(io.BytesIO(content)).to_pylist())
    if kind.format is NDJSON:
        return [json.loads(line) for line in content.splitlines()]
    if kind.format is JSON:
        return list(json.loads(content)["predictions"])
    if kind.format is ARROW:
        opened = pa.ipc.open_stream(content) if kind.name == "arrows" else pa.ipc.open_file(content)
        return list(opened.read_all().to_pylist())
    options = pa.csv.ConvertOptions(strings_can_be_null=False)
    rows: list[dict[str, Any]] = pa.csv.read_csv(io.BytesIO(content), convert_options=options).to_pylist()
    return [row | {"missing": row["missing"].split(";") if row["missing"] else []} for row in rows]


def spoiled(table: pa.Table, **cells: dict[int, Any]) -> pa.Table:
    """The same with other values in some rows of some columns."""
    for name, values in cells.items():
        column = table[name].to_pylist()
        for row, value in values.items():
            column[row] = value
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(column))
    return table


class Command:
    """`python -m service score`, called in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.said = ""

    def __call__(self, *arguments: str | Path) -> int:
        """Return the exit status; stderr is in `said`."""
        with pytest.raises(SystemExit) as exited:
            command([str(argument) for argument in arguments])
        self.said = self.capsys.readouterr().err
        assert isinstance(exited.value.code, int)
        return exited.value.code


@pytest.fixture
def score(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, in the folder where the models are."""
    monkeypatch.chdir(ROOT)
    return Command(capsys)


def started(*arguments: str | Path, **options: Any) -> "subprocess.Popen[bytes]":
    """The same as a process of its own; a context manager."""
    command = [sys.executable, "-m", "service", "score", *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, **pipes | options)


def run(*arguments: str | Path, **options: Any) -> tuple[int, bytes, str]:
    """Its exit status and what it wrote to stdout and stderr."""
    with started(*arguments, **options) as done:
        out, said = done.communicate()
    return done.returncode, out, said.decode()
