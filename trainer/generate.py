"""Test data of any size: real patients drawn again and again, each a little changed. They teach nothing new."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from pydantic import BaseModel, Field
from pydantic_settings import CliPositionalArg

from patient.encoding import layout, statistics
from trainer.atomic_write import atomic_write
from trainer.dataset import Dataset, DatasetError, read
from trainer.readers import BLOCK_ROWS, COLUMNS

JITTER = 0.1  # in standard deviations of the field


class Generate(BaseModel):
    """Write synthetic patients, drawn from a table with replacement and jittered, as .csv or .parquet."""

    out: CliPositionalArg[Path] = Field(description="file to write: .csv or .parquet")
    rows: int = Field(1_000_000, ge=1, description="how many")
    seed: int = Field(0, ge=0, description="of the draw and the jitter")
    data: Path = Field(Path("trainer/data/cleveland.csv"), description="table to draw from")

    def cli_cmd(self) -> None:
        """Run the command."""
        generate(self.out, self.rows, self.seed, read(self.data))


def generate(out: Path, rows: int, seed: int, data: Dataset) -> None:
    """Write `rows` patients like those of `data` to a .csv or .parquet file, which says that they are synthetic.

    Each is a patient of `data` drawn at random, whose numbers, but no codes, are moved by a normal jitter within the
    range that they have in `data`. Whole numbers stay whole, others keep one decimal; what is missing stays missing,
    and the target what it is. Equal arguments give equal rows. Raises DatasetError for another kind of file.
    """
    said = f"Synthetic, not patients: {rows} rows drawn from {data.name} with replacement and jittered, seed {seed}"
    table = np.column_stack([data.rows, data.target]).astype(np.float64)
    whole = [bool(np.all((column == np.rint(column)) | np.isnan(column))) for column in table.T]
    numbers, low, high = layout().numeric, np.fmin.reduce(table), np.fmax.reduce(table)
    scale = JITTER * statistics(data.rows)[1].astype(np.float64)
    types = [pa.int16() if is_whole else pa.float64() for is_whole in whole]
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)), metadata={"synthetic": said})
    rng = np.random.default_rng(seed)
    with atomic_write(out) as hidden, hidden.open("wb") as file:
        if out.suffix == ".parquet":
            writer = pa.parquet.ParquetWriter(file, schema)
        elif out.suffix == ".csv":
            file.write(f"# {said}\n{','.join(COLUMNS)}\n".encode())
            writer = pa.csv.CSVWriter(file, schema, write_options=pa.csv.WriteOptions(include_header=False))
        else:
            raise DatasetError(f"{out}: its name must end in .csv or .parquet")
        with writer:
            for start in range(0, rows, BLOCK_ROWS):
                drawn = rng.choice(table, min(BLOCK_ROWS, rows - start))
                drawn[:, numbers] += rng.normal(size=(len(drawn), len(numbers))) * scale
                drawn = np.where(whole, np.rint(drawn), drawn.round(1)).clip(low, high)
                arrays = [pa.array(column, kind, from_pandas=True) for column, kind in zip(drawn.T, types, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema))
