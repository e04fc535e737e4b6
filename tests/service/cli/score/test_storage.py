"""Files on a disk and in an object store: the same calls, and on a disk names of any bytes and links in circles."""

import os
from pathlib import Path

import pytest
from pyarrow import fs

from service.cli.score.storage import Disk, ObjectStore, Storage, folder_of
from tests.conftest import MODELS
from tests.service.cli.score.conftest import Command, patients, read, write

RAW = os.fsdecode(b"in-\xff.csv")
BOTH = pytest.mark.parametrize("storage", [Disk(), ObjectStore(fs.LocalFileSystem())], ids=["disk", "object store"])


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@BOTH
def test_files_are_written_found_listed_and_removed(storage: Storage, tmp_path: Path) -> None:
    root = f"{tmp_path}/new"
    assert storage.find(root) is None
    assert storage.children(root) == storage.tree(root, (".",)) == []
    for name in ("b/c/d.csv", "b/.hidden/e.csv", ".f.csv", "a.csv"):
        path = f"{root}/{name}"
        storage.make_folder(folder_of(path))
        with storage.create(path) as file:
            file.write(b"x" * len(name))
    found = {entry.path.removeprefix(root): (entry.kind, entry.name) for entry in storage.tree(root, (".",))}
    assert found == {
        "/a.csv": ("file", "a.csv"),
        "/b": ("folder", "b"),
        "/b/c": ("folder", "c"),
        "/b/c/d.csv": ("file", "d.csv"),
    }
    assert len(storage.tree(root, ())) == 7
    assert [entry.name for entry in storage.children(root)] == [".f.csv", "a.csv", "b"]
    entry = storage.find(f"{root}/a.csv")
    assert entry is not None
    assert (entry.kind, entry.size) == ("file", 5)
    assert entry.changed == (tmp_path / "new/a.csv").stat().st_mtime_ns
    storage.replace(f"{root}/b/c/d.csv", f"{root}/a.csv")
    storage.remove(f"{root}/.f.csv")
    storage.remove(f"{root}/.f.csv")
    assert names(tmp_path / "new") == ["a.csv", "b", "b/.hidden", "b/.hidden/e.csv", "b/c"]
    for is_seekable in (False, True):
        with storage.open(f"{root}/a.csv", is_seekable) as file:
            assert file.read() == b"x" * 9
    with pytest.raises(FileNotFoundError):
        storage.open(f"{root}/none.csv", is_seekable=False)


def test_a_folder_is_listed_once_under_its_own_name(tmp_path: Path) -> None:
    """Also if a link that comes first leads to it, to a folder above, or to one that links back."""
    (tmp_path / "in/real/deep").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for name in ("in/real/a.csv", "in/real/deep/b.csv", "outside/c.csv"):
        (tmp_path / name).touch()
    for name, target in (
        ("in/a-link", "real"),
        ("in/loop", "."),
        ("in/real/up", "../.."),
        ("in/self", "self"),
        ("in/x", "../outside"),
        ("outside/back", "../in"),
        ("in/gone.csv", "nowhere"),
    ):
        (tmp_path / name).symlink_to(target)
    root = str(tmp_path / "in")
    files = [entry.path.removeprefix(root) for entry in Disk().tree(root, (".",)) if entry.kind == "file"]
    assert files == ["/real/a.csv", "/real/deep/b.csv", "/x/c.csv"]


@pytest.mark.parametrize("inputs", [["in"], ["in/**/*.csv"], ["in/*.csv"], ["in/a.csv", "in/link.csv", "in/" + RAW]])
def test_each_file_is_scored_once(
    inputs: list[str], tmp_path: Path, score: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever links lead to it; a link to a file is named."""
    monkeypatch.setenv("HEART_MODELS", str(MODELS))
    monkeypatch.chdir(tmp_path)
    source = write(Path("in/a.csv"), patients(3).drop(["mrn", "ward"]))
    Path("in", RAW).write_bytes(source.read_bytes())
    Path("in/loop").symlink_to(".")
    Path("in/link.csv").symlink_to("a.csv")
    assert score(*inputs, "out") == 0
    assert "link.csv: skipped, a link to the same file as a.csv\n" in score.said
    assert "6 rows in 2 of 2 parts" in score.said
    assert sorted(path.name for path in Path("out").iterdir()) == [".parts", "a.csv", RAW]
    assert score(*inputs, "out") == 0
    assert "2 of them finished before" in score.said


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "arrow"])
def test_names_may_be_any_bytes(kind: str, tmp_path: Path, score: Command) -> None:
    """Of an input, an output, and what merely lies beside them."""
    beside = tmp_path / os.fsdecode(b"\xfe.txt")
    beside.touch()
    table = patients(3)
    source, out = (write(tmp_path / os.fsdecode(b"%b-\xff.%b" % (n, kind.encode())), table) for n in (b"i", b"o"))
    assert score(source, out, "--keep", "*") == 0
    assert len(read(out)) == 3
    assert {*tmp_path.iterdir()} == {beside, source, out}


@pytest.mark.parametrize(
    ("source", "out", "said"),
    [
        ("in/a.csv", "in/../in/a.csv", "a.csv: the output would replace its input"),
        ("in/a.csv", "link/a.csv", "a.csv: the output would replace its input"),
        ("in/a.csv", "link/", "a.csv: the output would replace its input"),
        ("in/a.csv", "hard.csv", "a.csv: the output would replace its input"),
        ("in", "link", "a.csv: the output would replace its input"),
        ("in", "in/../in", "in: no table found"),
        ("in/*.csv", "link/../in", "in/*.csv: no table found"),
    ],
)
def test_no_output_replaces_an_input(
    source: str, out: str, said: str, tmp_path: Path, score: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whatever path or link it is named."""
    monkeypatch.chdir(tmp_path)
    content = write(Path("in/a.csv"), patients(3)).read_bytes()
    Path("link").symlink_to("in")
    Path("hard.csv").hardlink_to("in/a.csv")
    assert score(source, out, "--keep", "*") == 2
    assert score.said == f"score: {said}\n"
    assert {path: path.read_bytes() for path in Path("in").iterdir()} == {Path("in/a.csv"): content}


def test_outputs_among_the_inputs_are_not_read_by_whatever_path(
    tmp_path: Path, score: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEART_MODELS", str(MODELS))
    monkeypatch.chdir(tmp_path)
    write(Path("in/a.csv"), patients(3))
    Path("link").symlink_to("in")
    for out in ("in/out", "link/out", "in/../in/out"):
        assert score("in", out, "--keep", "*") == 0
        assert "3 rows" in score.said
    assert names(tmp_path / "in/out") == [".parts", ".parts/a.csv.json", ".parts/lock", "a.csv"]


def test_a_name_is_shown_as_escapes(tmp_path: Path, score: Command) -> None:
    """Also its control characters, which would erase the screen or begin a line."""
    source = tmp_path / os.fsdecode(b"\xff\x1b[2J\n.csv")
    write(source, patients(3)).write_text("no table")
    assert score(source, tmp_path / "out.csv") == 1
    assert score.said.startswith(r"score: \xff\x1b[2J\n.csv: ")
    assert score(tmp_path / RAW, tmp_path / "out.csv") == 2
    assert score.said == f"score: {tmp_path}/in-\\xff.csv: no such file or folder\n"


def test_an_object_store_is_read_and_written(tmp_path: Path, score: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """With names in UTF-8 only, as they are on all of them."""
    store = ObjectStore(fs.LocalFileSystem())
    monkeypatch.setattr("service.cli.score.plan.locate", lambda text: (store, text))
    source = tmp_path / "in"
    for name in ("a.csv", "b/c.parquet"):
        write(source / name, patients(3))
    for inputs in (source, f"{source}/**/*"):
        assert score(inputs, tmp_path / "out", "--keep", "*") == 0
    assert "2 of them finished before" in score.said
    assert len(read(tmp_path / "out/b/c.parquet")) == 3
    assert score(source / "a.csv", tmp_path / "one.csv", "--keep", "*") == 0
    disk = write(source / RAW, patients(3))
    locations = {str(disk): (Disk(), str(disk))}
    monkeypatch.setattr("service.cli.score.plan.locate", lambda text: locations.get(text, (store, text)))
    assert score(disk, f"{tmp_path}/out/", "--keep", "*") == 2
    assert score.said == "score: in-\\xff.csv: object stores take UTF-8 names only\n"


@pytest.mark.parametrize(
    ("path", "folder"), [("/a/b.csv", "/a"), ("/b.csv", "/"), ("bucket/b.csv", "bucket"), ("-", "")]
)
def test_the_folder_of_a_file(path: str, folder: str) -> None:
    assert folder_of(path) == folder
