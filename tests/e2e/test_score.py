"""What the README says of files, done as it says it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.service.cli.score.conftest import patients, read, write

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if "service score" in line
]


@pytest.fixture
def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the README's examples find it: 20 patients in each table."""
    for name in (".venv", "models", "patient", "service"):
        (tmp_path / name).symlink_to(ROOT / name)
    table = patients(20).drop(["ward"])
    for name in ("patients.csv", "patients.csv.gz"):
        write(tmp_path / name, table.drop(["mrn"]))
    for name in ("january.csv.gz", "2026/february.csv.gz", "march.parquet"):
        write(tmp_path / "exports" / name, table)
    return tmp_path


def test_there_are_examples() -> None:
    """Of a file, a folder, a glob, a pipe, a service and a cluster."""
    assert len(COMMANDS) == 6


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_scores_every_patient(command: str, folder: Path, url: str) -> None:
    """With status 0, and as many answers as there are patients."""
    if "scored/" in command:  # the table beside the glob has an mrn as well
        shutil.copy(write(folder / "mrn.csv", patients(20).drop(["ward"])), folder / "patients.csv")
    there = {*folder.iterdir()}
    command = command.replace("http://127.0.0.1:8000", url)
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [out] = {*folder.iterdir()} - there
    files = sorted(file for file in out.rglob("*.*") if ".parts" not in file.parts) if out.is_dir() else [out]
    assert len(files) == (3 if out.is_dir() else 1)
    for file in files:
        assert len(read(file)) == 20
    assert done.stderr.endswith(" 0 bad\n")
