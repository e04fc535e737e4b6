"""`python -m trainer generate`: write synthetic tables of any size, for tests and benchmarks."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from patient.encoding import layout, statistics
from trainer.atomic_write import atomic_write
from trainer.cli.options import GenerateOptions
from trainer.dataset import Dataset, DatasetError, read
from trainer.readers import BLOCK_ROWS, COLUMNS

JITTER = 0.1  # in standard deviations of the field


def run(options: GenerateOptions) -> None:
    generate(options.out, options.rows, options.seed, read(options.data))


def generate(out: Path, rows: int, seed: int, data: Dataset) -> None:
    """Write `rows` synthetic patients to a .csv or .parquet file, which says that they are synthetic.

    Each is a row of `data`, drawn with replacement. Its numbers, but not its codes and target, get normal jitter within
    the range of their column in `data`; integers stay integers, other numbers keep one decimal. Missing values stay
    missing. Equal arguments give equal rows. Raises DatasetError if the file has another suffix.
    """
    note = f"Synthetic, not patients: {rows} rows drawn from {data.name} with replacement and jittered, seed {seed}"
    table = np.column_stack([data.rows, data.target]).astype(np.float64)
    is_whole = [bool(np.all((column == np.rint(column)) | np.isnan(column))) for column in table.T]
    numbers, low, high = layout().numeric, np.fmin.reduce(table), np.fmax.reduce(table)
    scale = JITTER * statistics([data.rows])[1].astype(np.float64)
    types = [pa.int16() if whole else pa.float64() for whole in is_whole]
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)), metadata={"synthetic": note})
    rng = np.random.default_rng(seed)
    with atomic_write(out) as hidden, hidden.open("wb") as file:
        if out.suffix == ".parquet":
            writer = pa.parquet.ParquetWriter(file, schema)
        elif out.suffix == ".csv":
            file.write(f"# {note}\n{','.join(COLUMNS)}\n".encode())
            writer = pa.csv.CSVWriter(file, schema, write_options=pa.csv.WriteOptions(include_header=False))
        else:
            raise DatasetError(f"{out}: its name must end in .csv or .parquet")
        with writer:
            for start in range(0, rows, BLOCK_ROWS):
                drawn = rng.choice(table, min(BLOCK_ROWS, rows - start))
                drawn[:, numbers] += rng.normal(size=(len(drawn), len(numbers))) * scale
                drawn = np.where(is_whole, np.rint(drawn), drawn.round(1)).clip(low, high)
                arrays = [pa.array(column, kind, from_pandas=True) for column, kind in zip(drawn.T, types, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema))
