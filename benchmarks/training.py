"""Speed and memory of the trainer, compared with plain `model.fit` on the same rows.

Usage: python -m benchmarks.training [--quick]

Three tables: a cross-validation trained as one network and fold by fold; rows per second within an epoch; and
peak memory when a table is streamed from its file. All on one machine, in one run, one after the other.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from patient.suppress_stderr import suppress_stderr

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with suppress_stderr():
    import keras

    from patient.encoding import Floats, encode, statistics
    from trainer import dataset
    from trainer.cli.generate import generate
    from trainer.cross_validation import stratified_folds
    from trainer.dataset import Dataset, TableSource, TrainTestTable, read
    from trainer.fit import fit, fit_chunks
    from trainer.recipe import Recipe
    from trainer.vectorized_cv import fit_folds

ROOT = Path(__file__).parents[1]
SIZES = (32, 1024)  # rows in a minibatch
PLAIN = Recipe(l2=0, dropout=0, blank=0, bias=0)  # for model.fit: the network alone


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def model_fit(rows: Floats, target: Floats, recipe: Recipe) -> None:
    """Encode, then train with Keras's own loop."""
    inputs = encode(rows, *statistics([rows]))
    model = keras.Sequential([keras.Input((29,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    model.fit(inputs, target, batch_size=recipe.batch_size, epochs=recipe.epochs, verbose=0)


def fold_by_fold(train: Callable[[Floats, Floats, Recipe], object], recipe: Recipe, data: Dataset, count: int) -> float:
    """Seconds per fold, mean over the first `count` of 10 x 10 folds."""
    folds = stratified_folds(data.target, 10, 10, 0).train[:count]
    return timed(lambda: [train(data.rows[fold], data.target[fold], recipe) for fold in folds]) / count


def speed(train: Callable[[Floats, Floats, Recipe], object], recipe: Recipe, size: int, many: Dataset) -> float:
    """Rows per second within an epoch, from the second one on: the first one compiles."""
    recipes = (recipe.model_copy(update={"epochs": epochs, "batch_size": size}) for epochs in (1, 3))
    once, thrice = (timed(partial(train, many.rows, many.target, recipe)) for recipe in recipes)
    return 2 * len(many) / (thrice - once)


def speed_tables(data: Dataset, epochs: int, count: int, rows: int) -> str:
    """A cross-validation as one network and fold by fold, and rows per second of an epoch over a table in memory."""
    drawn = np.random.default_rng(0).integers(0, len(data), rows)
    many = replace(data, rows=data.rows[drawn], target=data.target[drawn])
    plain, full = PLAIN.model_copy(update={"epochs": epochs}), Recipe(epochs=epochs)
    # model.fit first: our own training switches TensorFlow to deterministic operations, for which it need not pay.
    textbook = fold_by_fold(model_fit, plain, data, count)
    theirs = {size: speed(model_fit, PLAIN, size, many) for size in SIZES}
    train = stratified_folds(data.target, 10, 10, 0).train
    seconds = {
        "stacked, 100 folds together": timed(lambda: fit_folds(data.rows, data.target, train, full)) / len(train),
        f"fit.py, fold by fold ({count} folds)": fold_by_fold(fit, full, data, count),
        f"model.fit, fold by fold ({count} folds)": textbook,
    }
    fastest = min(seconds.values())
    lines = [f"| {epochs} epochs on 272 rows, minibatch 32 | s a fold | times as slow |", "|---|---:|---:|"]
    lines += [f"| {name} | {value:.3f} | {value / fastest:.1f} |" for name, value in seconds.items()]
    lines += ["", f"| rows/s of an epoch over {rows:,} rows: minibatch | model.fit | fit.py, same network | ratio |"]
    lines[-1] += " fit.py with L2, dropout, blanking | ratio |"
    lines.append("|---:|---:|---:|---:|---:|---:|")
    for size in SIZES:
        same, ours = speed(fit, PLAIN, size, many), speed(fit, Recipe(), size, many)
        ratios = f"{same:,.0f} | {same / theirs[size]:.1f} | {ours:,.0f} | {ours / theirs[size]:.1f}"
        lines.append(f"| {size:,} | {theirs[size]:,.0f} | {ratios} |")
    return "\n".join(lines)


def stream(path: Path) -> dict[str, float]:
    """One epoch of minibatches of 1,024 from the file, after the passes for validation and statistics."""
    dataset.MAX_ROWS_IN_MEMORY = 0
    table = TrainTestTable(TableSource(path), 0.2, 0, 0)
    recipe = Recipe(epochs=1, batch_size=1024)
    seconds = timed(lambda: fit_chunks(table.train, recipe))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts it in KiB
    return {"speed": table.train_rows / seconds, "peak": peak}


def memory_table(data: Dataset, sizes: list[int]) -> str:
    """Peak memory of streamed training, each in a separate process."""
    lines = ["| rows in the file | rows/s, two passes of the file | peak MiB |", "|---:|---:|---:|"]
    with tempfile.TemporaryDirectory() as folder:
        for rows in sizes:
            path = Path(folder) / "table.parquet"
            generate(path, rows, 0, data)
            command = [sys.executable, "-m", "benchmarks.training", str(path)]
            found = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
            lines.append(f"| {rows:,} | {found['speed']:,.0f} | {found['peak']:,.0f} |")
    return "\n".join(lines)


def main(quick: bool) -> str:
    """All tables as Markdown."""
    data = read(ROOT / "trainer/data/cleveland.csv")
    speeds = speed_tables(data, 30, 2, 65_536) if quick else speed_tables(data, 300, 5, 262_144)
    return f"{speeds}\n\n{memory_table(data, [100_000, 1_000_000] if quick else [1_000_000, 10_000_000])}"


if __name__ == "__main__":
    match sys.argv[1:]:
        case [] | ["--quick"] as flags:
            sys.stdout.write(main(bool(flags)) + "\n")
        case [path]:
            sys.stdout.write(json.dumps(stream(Path(path))))
        case _:
            sys.exit(__doc__)
