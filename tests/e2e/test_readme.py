"""What the README says, done as it says it."""

import io
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from patient.record import EXAMPLE, FIELDS
from service.settings import Settings
from service.tables.formats import FORMATS
from tests.conftest import ROOT
from tests.e2e.serving import serving
from tests.service.tables.conftest import packed
from trainer.dataset import Dataset

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"```sh\n(curl .*?)```\n\n```json\n(.*?)\n```", README, re.DOTALL)
TABLES = re.findall(r"^\| [\w ,]+ \| `((?:gzip|curl) .*?)` \| (?:`(.*?)` )?\| .* \|$", README, re.MULTILINE)
TABLE_CODE, TRITON_CODE = (
    "".join(re.findall(r"```python\n(.*?)```", part, re.DOTALL)) for part in README.split("## Other clients")
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """`make serve`, the README's first command, on a free port."""
    with serving(command=("make", "serve", "PORT={port}")) as (number, _):
        yield number


def test_there_are_examples() -> None:
    """A prediction, an error and an explanation."""
    assert len(COMMANDS) == 3


@pytest.mark.parametrize(("command", "answer"), COMMANDS)
def test_a_curl_command_gives_the_answer_beneath_it(port: int, command: str, answer: str) -> None:
    """To the last digit that the model's rounding allows."""
    words = shlex.split(command.replace(":8000", f":{port}"))
    got = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    expected = json.loads(answer)
    if "title" in got:
        expected["title"] = got["title"]  # HTTP renamed 422 in RFC 9110, and Python followed in 3.13
    assert_shows(got, expected)


def assert_shows(got: Any, expected: Any) -> None:
    """Equal, numbers but for the last digits; a list whose end is left out ends in "..."."""
    if isinstance(expected, dict):
        assert list(got) == list(expected)
        got, expected = list(got.values()), list(expected.values())
    if isinstance(expected, list):
        if expected[-1:] == ["..."]:
            expected = expected[:-1]
            assert len(got) > len(expected)
            got = got[: len(expected)]
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_shows(one, other)
    else:
        assert got == (pytest.approx(expected, abs=2e-6) if type(expected) is float else expected)


@pytest.fixture
def patients(cleveland: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, with the files that the README's examples send: 20 patients."""
    columns = zip(FIELDS, cleveland.rows[:20].astype(np.float64).T, strict=True)
    table = pa.table({name: pa.array(column, from_pandas=True) for name, column in columns})
    for format_ in FORMATS:
        (tmp_path / f"patients{format_.suffixes[0]}").write_bytes(packed(format_, table))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(answer: bytes) -> int:
    """How many patients are in an answer, whatever its format."""
    if answer.startswith(b"PAR1"):
        return int(pa.parquet.read_table(io.BytesIO(answer)).num_rows)
    if answer.startswith(b"\xff\xff\xff\xff"):
        return int(pa.ipc.open_stream(answer).read_all().num_rows)
    if answer.startswith(b"{"):
        return answer.count(b'"probability"')
    return len(answer.splitlines()) - 1


def test_there_are_examples_of_every_format() -> None:
    """With curl, and with Python."""
    assert len(TABLES) == len(FORMATS) + 3
    for format_ in FORMATS:
        assert any(format_.media_type in command and format_.media_type in python for command, python in TABLES)


@pytest.mark.parametrize("command", [command for command, _ in TABLES])
@pytest.mark.usefixtures("patients")
def test_a_table_goes_through_curl(port: int, command: str) -> None:
    """Every patient comes back."""
    line = command.replace("\\|", "|").replace(" URL", f" http://127.0.0.1:{port}/predict/batch")
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
    assert rows(done.stdout) == 20, done.stdout


@pytest.mark.filterwarnings("ignore:unclosed file")  # the examples are short
@pytest.mark.usefixtures("patients")
def test_the_python_examples_run(port: int) -> None:
    """The ten lines for pandas and polars, and then the table's cells."""
    pytest.importorskip("polars")
    scope: dict[str, Any] = {"URL": f"http://127.0.0.1:{port}/predict/batch"}
    exec(TABLE_CODE, scope)
    assert 0 < len(scope["sick"]) < 20
    assert {*FIELDS, "probability"} <= {*scope["sick"].columns}
    assert len(scope["frame"]) == 20
    for _, python in TABLES:
        if python:
            found = eval(python, scope)
            assert len(found["predictions"] if isinstance(found, dict) else found) in (20, 21)


def test_the_example_for_other_clients_runs(port: int) -> None:
    """The first patient of the README gets the same answer from a client that knows nothing of this service."""
    scope: dict[str, Any] = {}
    exec(TRITON_CODE.replace(":8000", f":{port}"), scope)
    (told,) = re.findall(r"here (\S+)", TRITON_CODE)
    assert scope["probability"] == pytest.approx(np.array([[float(told)]]), abs=1e-6)
    scope["client"].close()


def test_the_command_says_what_stands_beneath_it(port: int, tmp_path: Path) -> None:
    """`make serve` has installed it; each line answers, and the first one as shown."""
    commands, shown = re.findall(r"```sh\n(\.venv/bin/heart .*?)```\n\n```\n(.*?)```", README, re.DOTALL)[0]
    (tmp_path / "patient.json").write_text(json.dumps(EXAMPLE))
    said = []
    for command in commands.splitlines():
        words = command.replace("patient.json", str(tmp_path / "patient.json")).replace(":8000", f":{port}")
        done = subprocess.run(["sh", "-c", words], cwd=ROOT, capture_output=True, text=True, check=True)
        said.append(done.stdout)
    assert len(said) == 3
    for part in shown.split("  ...\n"):
        assert part in said[0]


def test_every_make_target_of_the_readme_exists() -> None:
    """And `make help` lists it."""
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in set(re.findall(r"make (\w+)", README.partition("## The record")[0])) - {"and"}:
        assert f"make {target}" in shown


def test_every_setting_and_every_field_is_documented() -> None:
    """With its default."""
    settings = (ROOT / "docs/settings.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in settings
        assert str(field.default) in settings, name
    for name in FIELDS:
        assert f"| `{name}` |" in README
