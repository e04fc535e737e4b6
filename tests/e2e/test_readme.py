"""What the README says, done as it says it."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from patient.record import FIELDS
from service.settings import Settings
from tests.conftest import ROOT
from tests.e2e.serving import serving

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"```sh\n(curl .*?)```\n\n```json\n(.*?)\n```", README, re.DOTALL)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """`make serve`, the README's first command, on a free port."""
    with serving(command=("make", "serve", "PORT={port}")) as (number, _):
        yield number


def test_there_are_examples() -> None:
    """A prediction and an error."""
    assert len(COMMANDS) == 2


@pytest.mark.parametrize(("command", "answer"), COMMANDS)
def test_a_curl_command_gives_the_answer_beneath_it(port: int, command: str, answer: str) -> None:
    """To the last digit that the model's rounding allows."""
    words = shlex.split(command.replace(":8000", f":{port}"))
    got = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    expected = json.loads(answer)
    expected["title"] = got.get("title")  # HTTP renamed 422 in RFC 9110, and Python followed in 3.13
    if "probability" in expected:
        expected["title"] = None
        got["title"] = None
        assert got["probability"] == pytest.approx(expected.pop("probability"), abs=1e-6)
        del got["probability"]
    assert got == expected


def test_every_make_target_of_the_readme_exists() -> None:
    """And `make help` lists it."""
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in set(re.findall(r"make (\w+)", README.partition("## The record")[0])) - {"and"}:
        assert f"make {target}" in shown


def test_every_setting_and_every_field_is_in_the_readme() -> None:
    """With its default."""
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in README
        assert str(field.default) in README, name
    for name in FIELDS:
        assert f"| `{name}` |" in README
