"""The `score` command: rows per second in each format, and for a folder on Ray with one and two workers.

Usage: python -m benchmarks.score [--rows N] [--write]

`--rows` patients (500,000) from `python -m trainer generate`, in one file of each format, scored into the
same format; and eight times as many in 16 CSV files, scored into Parquet by one process and by Ray. `--write` puts the
tables into benchmarks/RESULTS.md.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from benchmarks.results import put
from service.cli.score import command as score
from service.cli.score.attempt import SequentialExecutor
from service.cli.score.cluster import join_cluster
from service.cli.score.job import Job, Kind
from service.cli.score.local_engine import LocalEngine
from service.cli.score.plan import Executor, make_plan
from service.model.device import GpuOptions
from trainer.cli.generate import generate
from trainer.dataset import read

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- make bench-score writes from here -->", "<!-- make bench-score writes to here -->"
MODELS = ROOT / "models/heart_disease"
KINDS = ("parquet", "arrows", "csv", "csv.gz", "ndjson", "json")
ROUNDS, TABLES = 3, 16
Begin = Callable[[], contextlib.AbstractContextManager[Executor]]


def tables(folder: Path, rows: int) -> Iterator[Path]:
    """The same patients in each format."""
    made = folder / "generated.parquet"
    generate(made, rows, 0, read(ROOT / "trainer/data/cleveland.csv"))
    table = pa.parquet.read_table(made).drop(["target"]).replace_schema_metadata(None)
    for kind in KINDS:
        path = folder / f"in.{kind}"
        with pa.output_stream(path, compression=Kind.named("kind", kind).compression) as out:
            if kind == "parquet":
                pa.parquet.write_table(table, out)
            elif kind == "arrows":
                with pa.ipc.new_stream(out, table.schema) as writer:
                    writer.write_table(table, max_chunksize=2**16)
            elif kind.startswith("csv"):
                pa.csv.write_csv(table, out)
            else:
                for i, batch in enumerate(table.to_batches(2**16)):
                    lines = "\n".join(json.dumps(row) for row in batch.to_pylist())
                    text = lines + "\n" if kind == "ndjson" else ("," if i else "[") + lines.replace("\n", ",")
                    out.write(text.encode())
                out.write(b"" if kind == "ndjson" else b"]")
        yield path


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall clock and of this process's CPU time."""
    begun = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def by_format(folder: Path, rows: int) -> str:
    """The table of formats, as Markdown."""
    found: dict[Path, list[tuple[float, float]]] = {path: [] for path in tables(folder, rows)}
    for _ in range(ROUNDS):
        for path, seconds in found.items():
            arguments = [str(path), str(folder / path.name.replace("in", "out")), "--quiet", "--provider", "cpu"]
            seconds.append(timed(lambda asked=arguments: score.score(asked, standalone_mode=False)))  # type: ignore[misc]
    best = {path: tuple(map(min, zip(*seconds, strict=True))) for path, seconds in found.items()}
    fastest = min(wall for wall, _ in best.values())
    lines = [
        f"| {rows:,} rows in a file | MB | rows/s | rows per CPU second | times as slow |",
        "|---|---:|---:|---:|---:|",
    ]
    for path, (wall, cpu) in best.items():
        kind, size = path.name.removeprefix("in."), path.stat().st_size / 1e6
        speeds = f"{rows / wall:,.0f} | {rows / cpu:,.0f} | {wall / fastest:.1f}"
        lines.append(f"| {kind} | {size:,.0f} | {speeds} |")
    return "\n".join(lines)


def parts(folder: Path, out: Path, begin: Begin) -> dict[str, float]:
    """Score a folder: seconds until the first part exists, and rows per second after that."""
    begun, rows, first = time.perf_counter(), 0, 0.0
    found = make_plan([str(folder)], str(out), None, Kind.of("x.parquet"), parts=True)
    out.mkdir()
    with begin() as executor:
        for outcome in executor.attempts(found, str(out), lambda _read, _rows: None):
            assert not outcome.failure, outcome.failure
            if first:
                rows += outcome.rows
            first = first or time.perf_counter()
        last = time.perf_counter()
    return {"start": first - begun, "speed": rows / (last - first)}


def on_ray(folder: Path, rows: int) -> str:
    """The table of engines, as Markdown."""
    many = folder / "many"
    many.mkdir()
    table = pa.csv.read_csv(folder / "in.csv")
    for i in range(TABLES):
        pa.csv.write_csv(table.slice(i % 2 * rows // 2, rows // 2), many / f"{i:02}.csv")
    job = Job((), False)
    engine = LocalEngine.load(MODELS, "cpu", GpuOptions(), job)
    ways: dict[str, Begin] = {
        "one process": lambda: contextlib.nullcontext(SequentialExecutor(engine)),
        "Ray, 1 worker": lambda: join_cluster(engine, "cpu", GpuOptions(), None, 1),
        "Ray, 2 workers": lambda: join_cluster(engine, "cpu", GpuOptions(), None, 2),
    }
    rounds = [
        {way: parts(many, folder / f"parts-{way}-{i}", begin) for way, begin in ways.items()} for i in range(ROUNDS)
    ]
    found = {way: max((of[way] for of in rounds), key=lambda of: of["speed"]) for way in ways}
    title = f"{TABLES} tables of {rows // 2:,} rows"
    lines = [f"| {title} | rows/s | ratio | s to the first part |", "|---|---:|---:|---:|"]
    base = found["one process"]["speed"]
    lines += [
        f"| {way} | {of['speed']:,.0f} | {of['speed'] / base:.2f} | {of['start']:.1f} |" for way, of in found.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        text = f"{by_format(Path(name), asked.rows)}\n\n{on_ray(Path(name), asked.rows)}"
    sys.stdout.write(text + "\n")
    if asked.write:
        put(BEGIN, END, text)


if __name__ == "__main__":
    main()
