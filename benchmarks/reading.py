"""Speed and memory of reading and validating a table, compared with pyarrow's bare read of the same file.

Usage: python -m benchmarks.reading [--quick]

Each measurement runs in a separate process, to measure its peak memory: the best time of three passes over the
file, which the first pass loads into the page cache.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from trainer.cli.generate import generate
from trainer.dataset import TableSource, read
from trainer.readers import BLOCK_ROWS, COLUMNS

ROOT = Path(__file__).parents[1]
PASSES = 3


def checked(path: Path) -> int:
    """Rows read as the trainer reads them."""
    return sum(len(rows) for rows, _ in TableSource(path))


def bare(path: Path) -> int:
    """Rows read by pyarrow alone, batch by batch, in stored types from Parquet and as doubles from CSV."""
    if path.suffix == ".parquet":
        with pa.parquet.ParquetFile(path) as file:
            return sum(len(batch) for batch in file.iter_batches(BLOCK_ROWS))
    options = pa.csv.ReadOptions(skip_rows=1)  # the comment
    types = pa.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.float64()))
    with pa.csv.open_csv(path, options, convert_options=types) as batches:
        return sum(len(batch) for batch in batches)


READERS: dict[str, Callable[[Path], int]] = {"checked": checked, "bare": bare}


def measure(reader: str, path: Path) -> dict[str, float]:
    """Rows per second and peak memory in MiB of this process, which has done nothing else."""
    seconds = []
    for _ in range(PASSES):
        begun = time.perf_counter()
        rows = READERS[reader](path)
        seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts it in KiB
    return {"speed": rows / min(seconds), "peak": peak}


def apart(reader: str, path: Path) -> dict[str, float]:
    """Run `measure` in a separate process."""
    command = [sys.executable, "-m", "benchmarks.reading", reader, str(path)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def table(sizes: list[int]) -> str:
    """All measurements as Markdown."""
    lines = [
        "| file | rows | MB | rows/s, checked | rows/s, pyarrow | ratio | peak MiB, checked | peak MiB, pyarrow |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    source = read(ROOT / "trainer/data/cleveland.csv")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("csv", "parquet"):
            for rows in sizes:
                path = Path(folder) / f"table.{suffix}"
                generate(path, rows, 0, source)
                ours, theirs = (apart(reader, path) for reader in READERS)
                lines.append(
                    f"| {suffix} | {rows:,} | {path.stat().st_size / 1e6:,.0f} | {ours['speed']:,.0f} "
                    f"| {theirs['speed']:,.0f} | {ours['speed'] / theirs['speed']:.2f} "
                    f"| {ours['peak']:,.0f} | {theirs['peak']:,.0f} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [reader, path] if reader in READERS:
            sys.stdout.write(json.dumps(measure(reader, Path(path))))
        case []:
            sys.stdout.write(table([1_000_000, 10_000_000]) + "\n")
        case ["--quick"]:
            sys.stdout.write(table([100_000, 1_000_000]) + "\n")
        case _:
            sys.exit(__doc__)
