"""Files in, files out: what `python -m service score` promises of each, and how it fails."""

import contextlib
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from patient.record import FIELDS, missing
from service.model.predictor import Predictor
from tests.service.cli.score.conftest import KINDS, Command, patients, read, run, spoiled, started, write

KEEP = ("--keep", "mrn,ward")


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_comes_in(kind: str, tmp_path: Path, score: Command, predictor: Predictor) -> None:
    """Row for row what the model says, and what is kept comes along."""
    table = patients(2500)
    assert score(write(tmp_path / f"in.{kind}", table), tmp_path / "out.parquet", *KEEP) == 0
    rows = np.array([table[name].to_numpy() for name in FIELDS], np.float32).T
    found = pa.parquet.read_table(tmp_path / "out.parquet")
    np.testing.assert_allclose(found["probability"].to_numpy(), predictor(rows), atol=1e-7)
    assert found["mrn"].cast(pa.int64()).to_pylist() == list(range(2500))
    assert [ward or "" for ward in found["ward"].to_pylist()] == table["ward"].to_pylist()
    assert found["missing"].to_pylist() == [
        missing(None if np.isnan(cell) else cell for cell in row) for row in rows.tolist()
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_goes_out(kind: str, tmp_path: Path, score: Command) -> None:
    """With the same answers in each."""
    source = write(tmp_path / "in.parquet", patients(2500))
    assert score(source, tmp_path / "one.parquet", *KEEP) == 0
    assert score(source, tmp_path / f"two.{kind}", *KEEP) == 0
    assert read(tmp_path / f"two.{kind}") == read(tmp_path / "one.parquet")


def test_bad_rows_refuse_the_table_and_are_listed(tmp_path: Path, score: Command) -> None:
    """Row, column and reason, but no value; nothing is written, and the status says so."""
    table = spoiled(patients(500), chol={7: 1234.5}, age={9: None, 400: 17.0})
    assert score(write(tmp_path / "in.parquet", table), tmp_path / "out.csv", *KEEP) == 1
    assert "3 of 500 rows failed validation" in score.said
    assert "row 7, chol: Serum cholesterol must be a number from 50 to 1000 mg/dl" in score.said
    assert "row 9, age: " in score.said
    assert "1234" not in score.said
    assert [file.name for file in tmp_path.iterdir()] == ["in.parquet"]


def test_bad_rows_are_answered_in_place_where_that_is_asked(tmp_path: Path, score: Command) -> None:
    """As many rows out as in, and a status of its own."""
    table = spoiled(patients(500), chol={7: 1234.5}, sex={7: 3, 8: 1.5})
    source = write(tmp_path / "in.csv", table)
    assert score(source, tmp_path / "out.ndjson", *KEEP, "--on-error", "report") == 3
    rows = read(tmp_path / "out.ndjson")
    assert [row["mrn"] for row in rows] == [str(i) for i in range(500)]
    assert [i for i, row in enumerate(rows) if row["error"]] == [7, 8]
    assert rows[7]["probability"] is rows[8]["heart_disease"] is None
    assert "500 rows, 2 bad" in score.said
    assert score.said.count("row 7") == 2


def test_the_first_hundred_faults_are_listed_and_all_are_counted(tmp_path: Path, score: Command) -> None:
    """A terminal is no place for a million lines."""
    table = spoiled(patients(300), age=dict.fromkeys(range(250), 0))
    assert score(write(tmp_path / "in.csv", table), tmp_path / "out.csv", *KEEP, "--on-error", "report") == 3
    assert score.said.count("age: Age must be") == 100
    assert "and 150 more" in score.said
    assert "300 rows, 250 bad" in score.said


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_fails_in_a_sentence_and_writes_nothing(kind: str, tmp_path: Path, score: Command) -> None:
    """Cut off in the middle, whatever the format; text may end anywhere, but the row it ends in is bad."""
    source = write(tmp_path / f"in.{kind}", patients(2500))
    with source.open("r+b") as file:
        file.truncate(source.stat().st_size // 2)
    assert score(source, tmp_path / "out.csv", *KEEP) == 1
    assert score.said.startswith(f"score: in.{kind}: ")
    assert not (tmp_path / "out.csv").exists()


def test_columns_are_refused_by_name(tmp_path: Path, score: Command) -> None:
    """Before the first row."""
    source = write(tmp_path / "in.csv", patients(5).drop(["chol"]))
    assert score(source, tmp_path / "out.csv", "--keep", "mrn") == 1
    assert "chol: Serum cholesterol is missing; Column 14: not in a patient record" in score.said


@pytest.mark.parametrize("kind", ["csv", "ndjson", "parquet", "arrows"])
def test_no_rows_give_no_rows(kind: str, tmp_path: Path, score: Command) -> None:
    """A day without patients is no failure."""
    assert score(write(tmp_path / f"in.{kind}", patients(0)), tmp_path / f"out.{kind}", "--keep", "*") == 0
    assert read(tmp_path / f"out.{kind}") == []


def test_what_stood_there_stays_until_the_new_file_is_whole(tmp_path: Path, score: Command) -> None:
    """Refused answers replace nothing; good ones do, and whatever a killed run left goes."""
    out = tmp_path / "out.csv"
    out.write_text("before")
    left = tmp_path / ".writing-0123"
    left.write_text("half")
    os.utime(left, (0, 0))
    source = write(tmp_path / "in.csv", spoiled(patients(5), age={0: 7}))
    assert score(source, out, *KEEP) == 1
    assert out.read_text() == "before"
    assert score(write(source, patients(5)), out, *KEEP) == 0
    assert len(read(out)) == 5
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_it_reads_stdin_and_writes_stdout(tmp_path: Path) -> None:
    """As a part of a pipe: answers alone go to stdout, and Arrow as a stream."""
    with write(tmp_path / "in.csv", patients(3000)).open("rb") as source:
        status, out, said = run("-", "-", "--format", "csv", "--to", "arrow", *KEEP, stdin=source)
    assert (status, said) == (0, "score: 3,000 rows, 0 bad\n")
    assert pa.ipc.open_stream(out).read_all()["mrn"].to_pylist() == [str(i) for i in range(3000)]


def test_refused_answers_do_not_begin_on_stdout(tmp_path: Path) -> None:
    """What reads the pipe never sees half a table."""
    source = write(tmp_path / "in.ndjson", spoiled(patients(50_000), age={49_999: 7}))
    status, out, said = run(source, "-", *KEEP, "--quiet")
    assert (status, out) == (1, b""), said


def test_a_reader_that_has_had_enough_ends_it_quietly(tmp_path: Path) -> None:
    """As `| head` does."""
    source = write(tmp_path / "in.csv", patients(200_000))
    with started(source, "-", "--on-error", "report", *KEEP) as done:
        assert done.stdout
        assert done.stderr
        done.stdout.readline()
        done.stdout.close()
        assert done.stderr.read() == b""
    assert done.returncode == 1


def test_a_named_pipe_is_read_as_it_comes(tmp_path: Path) -> None:
    """`<(...)` of a shell is one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with started(pipe, tmp_path / "out.parquet", "--format", "csv", *KEEP) as done:
        with pipe.open("wb") as end:
            end.write(write(tmp_path / "in.csv", patients(1000)).read_bytes())
        assert done.communicate()[1] == b"score: 1,000 rows, 0 bad\n"
    assert len(read(tmp_path / "out.parquet")) == 1000


def test_a_bar_is_shown_at_a_terminal_alone(tmp_path: Path) -> None:
    """Rows and rows a second, on stderr; `--quiet` hides it even there."""
    source = write(tmp_path / "in.csv", patients(100_000))
    shown = []
    for flags in ([], ["--quiet"]):
        ours, theirs = os.openpty()
        with started(source, tmp_path / "out.parquet", *KEEP, *flags, stderr=theirs) as done:
            os.close(theirs)
            said = b""
            with contextlib.suppress(OSError):  # Linux says so where the other end is closed
                while data := os.read(ours, 4096):
                    said += data
        os.close(ours)
        assert done.returncode == 0
        shown.append(said)
    assert b"rows/s" in shown[0]
    assert shown[1] == b""


def test_a_url_of_files_is_a_path(tmp_path: Path, score: Command) -> None:
    """As those of object stores are."""
    source = write(tmp_path / "in.csv", patients(10))
    assert score(source.as_uri(), (tmp_path / "out.parquet").as_uri(), *KEEP) == 0
    assert len(read(tmp_path / "out.parquet")) == 10


def test_the_model_is_that_of_the_flag_or_of_the_environment(
    tmp_path: Path, score: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the service."""
    source = write(tmp_path / "in.csv", patients(10))
    assert score(source, tmp_path / "out.csv", *KEEP, "--models", tmp_path / "none") == 1
    assert "no model here" in score.said
    monkeypatch.setenv("HEART_MODELS", str(tmp_path / "elsewhere"))
    assert score(source, tmp_path / "out.csv", *KEEP) == 1
    assert "elsewhere: no model here" in score.said
    assert score(source, tmp_path / "out.csv", *KEEP, "--models", "models/heart_disease", "--provider", "cpu") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in.csv"], "both IN and OUT"),
        (["none.csv", "out.csv"], "none.csv: no such file or folder"),
        (["*.arrow", "out"], "no table found"),
        (["in.csv", "in.csv"], "would replace its input"),
        (["in.txt", "out.csv"], "give --format"),
        (["in.csv", "out.csv", "--format", "xls"], "--format must be one of json, ndjson"),
        (["in.csv", "out.csv", "--to", "csv.csv"], "--to must be one of"),
        (["in.csv", "other.csv", "taken.parquet"], "several inputs require a folder"),
        (["in.csv", "in.csv", "out"], "would both be written to in.csv"),
        (["in.csv", "out.xlsx"], "out.xlsx: unknown format; end OUT in json, ndjson, jsonl, csv, "),
        (["in.csv", "out.csv.bz2", "--format", "csv"], "out.csv.bz2: unknown format; end OUT in "),
        (["-", "out.tsv", "--format", "csv"], "out.tsv: unknown format; end OUT in "),
        (["in.csv", ""], "a path is empty"),
        (["", "out.csv"], "a path is empty"),
        (["in.csv", "out"], "parquet, also with .gz or .zst, or give --to"),
        (["in.csv", "/dev/null"], "neither a file nor a folder"),
        (["-", "out.csv"], "stdin: unknown format, give --format"),
        (["-", "in.csv", "-", "--format", "csv"], "stdin and stdout take one table"),
        (["in.csv", "out.csv", "--keep", "age"], "age: A field of the patient record cannot be kept"),
        (["in.csv", "out.csv", "--workers", "2"], "require --engine ray"),
        (["in.csv", "out.csv", "--url", "ftp://x"], "--url: "),
        (["in.csv", "out.csv", "--url", "http://x", "--models", "m"], "the service has its own model"),
        (["s4://key:secret@bucket/in.csv", "out.csv"], "s4://...: not a URL"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(
    arguments: list[str], said: str, tmp_path: Path, score: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the status of a wrong usage, and nothing written."""
    monkeypatch.chdir(tmp_path)
    content = write(tmp_path / "in.csv", patients(3)).read_bytes()
    for name in ("other.csv", "in.txt"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "taken.parquet").write_text("")
    there = sorted(tmp_path.iterdir())
    assert score(*arguments) == 2
    assert said in score.said
    assert score.said.count("\n") == 1
    assert "secret" not in score.said
    assert sorted(tmp_path.iterdir()) == there


def test_the_output_has_any_name_if_its_format_is_given(tmp_path: Path, score: Command) -> None:
    """By `--to`, which its suffix does not overrule."""
    source = write(tmp_path / "in.parquet", patients(3))
    for name in ("out.xlsx", "out", "out.parquet"):
        assert score(source, tmp_path / name, "--to", "csv", "--keep", "*") == 0
        assert (tmp_path / name).read_text().startswith("mrn,ward,probability,")


def test_help_tells_the_exit_statuses() -> None:
    """All of them."""
    status, out, said = run("--help")
    assert (status, said) == (0, "")
    for number in (0, 1, 2, 3, 130):
        assert re.search(rf"^ +{number} +\w", out.decode(), re.MULTILINE)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_any_type_are_kept_or_refused_in_a_sentence(kind: str, tmp_path: Path, score: Command) -> None:
    """Categories whose batches have dictionaries of their own, bytes that are no text, and a union."""
    table = patients(2000).drop_columns(["ward"])
    batches: list[pa.RecordBatch] = []
    for batch in table.to_batches(1000):
        ward = pa.array([f"{number % 7}, {len(batches)}" for number in range(1000)]).dictionary_encode()
        batches.append(batch.append_column("ward", ward).append_column("raw", pa.array([b"\xff"] * 1000, pa.binary(1))))
    with pa.ipc.new_stream(tmp_path / "in.arrows", batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    assert score(tmp_path / "in.arrows", tmp_path / f"out.{kind}", "--keep", "*") == 0
    rows = read(tmp_path / f"out.{kind}")
    assert [row["ward"] for row in rows] == [f"{number % 7}, {batch}" for batch in (0, 1) for number in range(1000)]
    is_text = "csv" in kind or "json" in kind
    assert {row["raw"] for row in rows} == {"/w==" if is_text else b"\xff"}

    union = pa.UnionArray.from_sparse(pa.array([0] * 2000, pa.int8()), [pa.nulls(2000)])
    with pa.ipc.new_stream(tmp_path / "in.arrows", table.append_column("ward", union).schema) as writer:
        writer.write_table(table.append_column("ward", union))
    is_refused = "parquet" in kind
    assert score(tmp_path / "in.arrows", tmp_path / f"union.{kind}", "--keep", "ward,mrn") == int(is_refused)
    assert (tmp_path / f"union.{kind}").exists() is not is_refused
    error = score.said
    assert ("ward: Parquet cannot hold its type or its values (sparse_union<null>)" in error) is is_refused
    assert "Traceback" not in error
