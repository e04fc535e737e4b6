"""`heart convert`: a file in Kaggle's codes becomes one in ours, or nothing is written; and what score says before."""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from heart import heart
from tests.conftest import CLEVELAND, ROOT
from tests.e2e.serving import serving
from tests.kaggle import SENTENCE, as_csv, kaggles
from tests.service.cli.score.conftest import run as run_score

KEEP = ("--keep", "target")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder where the models are."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving("--log-level", "error") as (port, _):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file as it is downloaded, with a byte order mark."""
    path = tmp_path / "heart.csv"
    path.write_text(as_csv(kaggles()), encoding="utf-8-sig")
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(heart, ["convert", *map(str, words)], prog_name="heart")


def test_a_converted_file_is_the_data_set(file: Path, tmp_path: Path) -> None:
    """Byte for byte, also compressed, with other separators and line ends, and over an older file."""
    (tmp_path / "out.csv").write_text("old")
    result = run(file, tmp_path / "out.csv")
    assert (result.exit_code, result.stderr, result.stdout) == (0, "303 rows converted\n", "")
    assert (tmp_path / "out.csv").read_text() == CLEVELAND.read_text()
    packed, out = tmp_path / "heart.csv.gz", tmp_path / "new/out.csv.gz"
    packed.write_bytes(gzip.compress(file.read_bytes().replace(b",", b";").replace(b"\n", b"\r\n")))
    assert run(packed, out).exit_code == 0
    assert gzip.decompress(out.read_bytes()) == CLEVELAND.read_bytes().replace(b",", b";")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (CLEVELAND.read_bytes(), ":2: restecg must be 0, 1 or 2 in Kaggle's codes"),
        (b"SURNAME,1\n", ":1: the first line must name the columns; it lacks cp, restecg, slope, ca, thal"),
        (b"", ":0: the first line must name the columns"),
        (as_csv(kaggles()).encode() + b"1,2\n", ":305: the row has 2 cells, the header 14"),
        (as_csv(kaggles()).encode() + b'"\n', ":305: not CSV"),
        (as_csv(kaggles()).encode() + b"\xff\n", ": not UTF-8 text"),
    ],
)
def test_what_is_no_such_file_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    """In one line, with status 1; nothing is written, and no cell repeated."""
    (tmp_path / "in.csv").write_bytes(content.replace(b"63,1,1,145,233,1,2,", b"63,1,1,145,233,1,9,"))
    (tmp_path / "out.csv").write_text("old")
    result = run(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert f"in.csv{reason}" in result.stderr
    assert "SURNAME" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]
    assert (tmp_path / "out.csv").read_text() == "old"


def test_names_may_be_any_bytes(file: Path, tmp_path: Path) -> None:
    """And are shown as escapes."""
    source, out, absent = (tmp_path / os.fsdecode(name) for name in (b"in\xff.csv", b"out\xff.csv", b"\xfe.csv"))
    file.rename(source)
    assert run(source, out).exit_code == 0
    assert out.read_bytes() == CLEVELAND.read_bytes()
    assert run(absent, out).stderr == f"Error: {tmp_path}/\\xfe.csv: No such file or directory\n"
    source.write_text("SURNAME,1\n")
    assert run(source, out).stderr.startswith(f"Error: {tmp_path}/in\\xff.csv:1: ")


def test_a_wrong_command_line_is_told(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for words, status in (
        ((file, file), 2),
        ((file, tmp_path / "link/heart.csv"), 2),
        ((file, tmp_path / "out.parquet"), 2),
        (("-", tmp_path / "out.csv"), 2),
        ((file,), 2),
        ((tmp_path / "absent.csv", tmp_path / "out.csv"), 1),
        ((file, "/proc/absent/out.csv"), 1),
    ):
        result = run(*words)
        assert result.exit_code == status, result.stderr
        assert not (tmp_path / "out.csv").exists()


def test_score_refuses_the_file_and_scores_the_converted_one(file: Path, tmp_path: Path, url: str) -> None:
    """With one sentence here and through a service, in every mode; the converted file is scored as the data set is."""
    said = set()
    for mode in ("refuse", "report"):
        for more in ((), ("--url", url)):
            words = (*KEEP, "--on-error", mode, *more)
            status, out, error = run_score(file, tmp_path / "out.csv", *words)
            assert (status, (tmp_path / "out.csv").exists()) == (1, False)
            assert f": {SENTENCE}: see cp, slope, ca and thal in 267 of its first 303 rows." in error
            said.add(error)
            status, out, error = run_score(file, "-", *words, "--to", "csv")
            assert (status, out) == (1, b"")
    assert len(said) == 1
    assert run(file, tmp_path / "ours.csv").exit_code == 0
    assert run_score(tmp_path / "ours.csv", tmp_path / "one.csv", *KEEP)[0] == 0
    assert run_score(CLEVELAND, tmp_path / "two.csv", *KEEP)[0] == 0
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_every_part_of_a_folder_is_judged_by_itself(file: Path, tmp_path: Path, url: str) -> None:
    """The others are scored."""
    folder = tmp_path / "in"
    folder.mkdir()
    file.rename(folder / "b.csv")
    for name in ("a.csv", "c.csv"):
        (folder / name).write_bytes(CLEVELAND.read_bytes())
    for out, more in (("here", ()), ("there", ("--url", url))):
        status, _, error = run_score(folder, tmp_path / out, *KEEP, "--on-error", "report", *more)
        assert status == 1
        assert f"b.csv: {SENTENCE}" in error
        assert sorted(path.name for path in (tmp_path / out).glob("*.csv")) == ["a.csv", "c.csv"]
