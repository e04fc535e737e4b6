"""Folders: a part for each table, made once, whole or not there, whatever kills the run."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.conftest import MODELS
from tests.service.cli.score.conftest import Command, patients, read, run, spoiled, started, write

KEEP = ("--keep", "*")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four tables of different kinds in two levels, and what else lies about."""
    where = tmp_path / "in"
    for name in ("a.csv", "b.parquet", "2026/c.ndjson", "2026/d.csv.gz"):
        write(where / name, patients(300, seed=ord(name[-5])))
    write(where / "_old/e.csv", patients(1))
    write(where / ".f.csv", patients(1))
    (where / "README.md").write_text("# Patients\n")
    return where


def names(out: Path) -> list[str]:
    """The files that a reader of the folder sees."""
    found = (str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    return sorted(name for name in found if not name.startswith("."))


def state(out: Path) -> dict[str, int]:
    """When each part was written."""
    return {name: (out / name).stat().st_mtime_ns for name in names(out)}


def test_a_folder_gives_a_part_for_each_table(folder: Path, tmp_path: Path, score: Command) -> None:
    """Under its own name, in the format that OUT ends in; what is no table is named and left out."""
    out = tmp_path / "out.parquet"
    assert score(folder, out, *KEEP) == 0
    assert names(out) == ["2026/c.parquet", "2026/d.parquet", "a.parquet", "b.parquet"]
    assert "README.md: skipped" in score.said
    assert "1,200 rows in 4 of 4 parts, 0 of them finished before, 0 bad" in score.said
    for name in names(out):
        source = next(folder.glob(name.replace("parquet", "*")))
        assert score(source, tmp_path / "one.parquet", *KEEP) == 0
        assert read(out / name) == read(tmp_path / "one.parquet")
    assert pa.parquet.read_table(tmp_path / "out.parquet", columns=["probability"]).num_rows == 1200


@pytest.mark.parametrize(
    ("inputs", "parts"),
    [
        (["in/*.csv"], ["a.csv"]),
        (["in/**/*.csv*"], ["2026/d.csv.gz", "_old/e.csv", "a.csv"]),
        (["in/[ab]*", "in/2026"], ["a.csv", "b.parquet", "c.ndjson", "d.csv.gz"]),
        (["in/**"], ["2026/c.ndjson", "2026/d.csv.gz", "_old/e.csv", "a.csv", "b.parquet"]),
        (["in/20*/c.*", "in/a.csv"], ["2026/c.ndjson", "a.csv"]),
        (["file://{}/in/*/*.ndjson"], ["2026/c.ndjson"]),
    ],
)
def test_globs_and_several_inputs_give_parts_too(
    inputs: list[str], parts: list[str], folder: Path, tmp_path: Path, score: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in the format that it came in, where nothing else is said."""
    (folder / "README.md").unlink()
    assert folder.is_dir()
    arguments = [text.format(tmp_path) for text in inputs]
    monkeypatch.chdir(tmp_path)
    assert score(*arguments, "out", *KEEP, "--models", MODELS) == 0
    assert names(tmp_path / "out") == parts


def test_a_finished_part_is_not_made_again(folder: Path, tmp_path: Path, score: Command) -> None:
    """And one that is not there, or was touched, is."""
    out = tmp_path / "out"
    assert score(folder, out, *KEEP) == 0
    before = state(out)
    assert score(folder, out, *KEEP) == 0
    assert "4 of them finished before" in score.said
    assert state(out) == before
    (out / "a.csv").unlink()
    (out / "b.parquet").write_bytes(b"")
    assert score(folder, out, *KEEP) == 0
    assert {name for name, when in state(out).items() if when != before[name]} == {"a.csv", "b.parquet"}
    assert len(read(out / "b.parquet")) == 300


def test_another_input_option_or_model_makes_it_again(folder: Path, tmp_path: Path, score: Command) -> None:
    """Old answers never pass for new ones."""
    out, inputs = tmp_path / "out", folder / "*.csv"
    models = tmp_path / "models"
    shutil.copytree(MODELS / "1", models / "1")
    asked: list[str | Path] = [*KEEP, "--models", models]
    assert score(inputs, out, *asked) == 0
    first = read(out / "a.csv")
    write(folder / "a.csv", patients(301))
    assert score(inputs, out, *asked) == 0
    assert "301 rows in 1" in score.said or "301 rows, 0 bad" in score.said
    assert len(read(out / "a.csv")) == 301
    assert score(inputs, out, *asked, "--on-error", "report") == 0
    assert "error" in read(out / "a.csv")[0]
    write(folder / "a.csv", patients(300, seed=ord("a")))
    shutil.copytree(MODELS / "2", models / "2")
    assert score(inputs, out, *asked) == 0
    assert read(out / "a.csv") != first


def test_a_second_run_tells_the_bad_rows_of_the_first(folder: Path, tmp_path: Path, score: Command) -> None:
    """The status and the list are of all parts, whoever made them; no value is in any note."""
    write(folder / "a.csv", spoiled(patients(300), chol={5: 4321.5}))
    asked: list[str | Path] = [folder, tmp_path / "out", *KEEP, "--on-error", "report"]
    assert score(*asked) == 3
    first = score.said
    assert "a.csv row 5, chol: " in first
    assert score(*asked) == 3
    assert score.said == first.replace("0 of them finished before", "4 of them finished before")
    notes = "".join(file.read_text() for file in (tmp_path / "out/.parts").rglob("*.json"))
    assert "4321" not in notes


def test_a_refused_part_is_not_there_and_the_others_are(folder: Path, tmp_path: Path, score: Command) -> None:
    """Nor is what an earlier input made of it."""
    out = tmp_path / "out"
    assert score(folder, out, *KEEP) == 0
    write(folder / "a.csv", spoiled(patients(300), chol={5: 4321.5}))
    assert score(folder, out, *KEEP) == 1
    assert "a.csv: 1 of 300 rows failed validation." in score.said
    assert "in 3 of 4 parts" in score.said
    assert names(out) == ["2026/c.ndjson", "2026/d.csv.gz", "b.parquet"]
    write(folder / "a.csv", patients(300))
    assert score(folder, out, *KEEP) == 0
    assert "3 of them finished before" in score.said


def test_answers_in_the_folder_of_the_inputs_are_not_read(folder: Path, score: Command) -> None:
    """The second run finds the same tables as the first."""
    assert score(folder, folder / "out", *KEEP) == 0
    assert score(folder, folder / "out", *KEEP) == 0
    assert "4 of 4 parts, 4 of them finished before" in score.said


def test_parts_of_other_inputs_are_named(folder: Path, tmp_path: Path, score: Command) -> None:
    """Whoever reads the whole folder would take them for answers to this."""
    assert score(folder, tmp_path / "out", *KEEP) == 0
    (folder / "b.parquet").unlink()
    assert score(folder, tmp_path / "out", *KEEP) == 0
    assert "also holds 1 parts of other inputs, such as b.parquet" in score.said


def test_two_runs_do_not_write_to_one_folder(folder: Path, tmp_path: Path, score: Command) -> None:
    """The second is refused, and takes nothing away from the first."""
    hidden = tmp_path / "out/.parts/.writing-1"
    hidden.parent.mkdir(parents=True)
    hidden.write_text("of the first")
    with (tmp_path / "out/.parts/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert score(folder, tmp_path / "out", *KEEP) == 2
    assert "another run is writing there" in score.said
    assert hidden.exists()


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_a_killed_run_is_finished_by_the_next(parts: int, tmp_path: Path) -> None:
    """kill -9 in the middle of a part: what is there is whole, stays, and in the end all is as if nothing had been."""
    whole = {f"p{i}.csv": patients(100_000 if i == parts else 2000, seed=i) for i in range(8)}
    for name, table in whole.items():
        write(tmp_path / "in" / name, table)
    asked: list[str | Path] = [tmp_path / "in", tmp_path / "out.parquet", *KEEP, "--quiet"]
    with started(*asked) as first:
        hidden = tmp_path / "out.parquet/.parts"
        while not (len(list(hidden.glob("*.json"))) == parts and any(hidden.glob(".writing-*"))):
            assert first.poll() is None
            time.sleep(0.001)
        os.kill(first.pid, signal.SIGKILL)
    there = state(tmp_path / "out.parquet")
    assert 0 < len(there) < len(whole)
    assert {len(read(tmp_path / "out.parquet" / name)) for name in there} <= {2000, 100_000}
    assert run(*asked) == (0, b"", "")
    assert state(tmp_path / "out.parquet").items() >= there.items()
    assert run(tmp_path / "in", tmp_path / "calm.parquet", *KEEP, "--quiet") == (0, b"", "")
    assert names(tmp_path / "out.parquet") == names(tmp_path / "calm.parquet")
    for name in names(tmp_path / "calm.parquet"):
        assert (tmp_path / "out.parquet" / name).read_bytes() == (tmp_path / "calm.parquet" / name).read_bytes()
    assert not list(hidden.glob(".writing-*"))


def until_it_writes(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Some answers are there, and more to come."""
    while not any(file.stat().st_size for file in folder.glob(".writing-*")):
        assert process.poll() is None
        time.sleep(0.001)


def test_a_killed_run_leaves_no_file_that_looks_finished(tmp_path: Path) -> None:
    """One table into one file: it is not there."""
    source = write(tmp_path / "in.csv", patients(300_000))
    with started(source, tmp_path / "out.csv", *KEEP) as first:
        until_it_writes(first, tmp_path)
        os.kill(first.pid, signal.SIGKILL)
    assert not (tmp_path / "out.csv").exists()


def test_ctrl_c_says_so_and_leaves_nothing_half(tmp_path: Path) -> None:
    """With the status that shells give."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it: so would `score`
    source = write(tmp_path / "in.csv", patients(100_000))
    rows = source.read_bytes().partition(b"\n")[2]
    with source.open("ab") as file:
        file.writelines([rows] * 20)  # seconds of work, so that the signal comes in the middle
    with started(source, tmp_path / "out.csv", *KEEP) as first:
        until_it_writes(first, tmp_path)
        first.send_signal(signal.SIGINT)
        assert first.communicate()[1] == b"score: interrupted; finished parts are kept\n"
    assert first.returncode == 130
    assert [file.name for file in tmp_path.iterdir()] == ["in.csv"]


def test_a_note_that_is_none_is_no_note(folder: Path, tmp_path: Path, score: Command) -> None:
    """Whatever became of it, the part is made again."""
    assert score(folder, tmp_path / "out", *KEEP) == 0
    for content, note in zip(("", "{}", "[]"), sorted((tmp_path / "out/.parts").rglob("*.json")), strict=False):
        note.write_text(content)
    old = json.loads(sorted((tmp_path / "out/.parts").rglob("*.json"))[3].read_text())
    assert old["outcome"]["rows"] == 300
    assert score(folder, tmp_path / "out", *KEEP) == 0
    assert "1 of them finished before" in score.said
