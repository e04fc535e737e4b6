"""The command `heart` as a process: its subcommands, exit statuses, and completion in a real bash."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from heart import heart
from patient.record import EXAMPLE
from tests.conftest import ROOT
from tests.e2e.serving import serving
from tests.service.cli.score.conftest import patients, read, write

HEART = (sys.executable, "-m", "heart")


def run(*words: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command with these words."""
    env = os.environ | {"COLUMNS": "80"} | environment
    return subprocess.run([*HEART, *map(str, words)], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_the_package_installs_the_command() -> None:
    """The entry point is there to be called."""
    module, _, name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["heart"].partition(":")
    assert callable(getattr(import_module(module), name))


def test_help_lists_every_command_and_the_statuses() -> None:
    """At 80 columns."""
    done = run("--help")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    for name, command in heart.commands.items():
        assert f"  {name} " in done.stdout
        assert str(command.short_help) in done.stdout
    assert run("nonsense").returncode == 2
    assert run("--version").stdout.startswith("heart")


@pytest.mark.parametrize("name", heart.commands)
def test_every_command_has_help_and_refuses_unknown_options(name: str) -> None:
    done = run(name, "--help")
    assert (done.returncode, done.stdout.lower().startswith(f"usage: heart {name}")) == (0, True)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert run(name, "--nonsense").returncode == 2


def test_files_are_scored(tmp_path: Path) -> None:
    """With the statuses of `python -m service score`."""
    source = write(tmp_path / "in.csv", patients(20).drop(["mrn", "ward"]))
    assert run("score", source, tmp_path / "out.parquet").returncode == 0
    assert len(read(tmp_path / "out.parquet")) == 20
    assert run("score", tmp_path / "absent.csv", tmp_path / "out.csv").returncode == 2


def test_it_serves_and_queries_its_service() -> None:
    """One command on both sides."""
    with serving(command=(*HEART, "serve", "--provider", "cpu", "--port", "{port}")) as (port, _):
        asked = ("predict", "--age", "63", "--sex", "male", "--json")
        there = run(*asked, "--url", f"http://127.0.0.1:{port}")
    assert there.stdout == run(*asked).stdout
    assert json.loads(there.stdout)["model_version"]


def test_train_is_fit_without_a_command(tmp_path: Path, completed: Callable[[str], list[str]]) -> None:
    """`heart train --data ...` is `trainer fit --data ...`."""
    done = run("train", "--data", tmp_path / "absent.csv", "--models", tmp_path)
    assert done.returncode == 1
    assert "trainer: " in done.stderr
    assert "absent.csv" in done.stderr
    assert completed("heart train ") == ["fit", "evaluate", "generate"]
    assert "--blank-fields" in completed("heart train --bl")
    assert completed("heart train --optimizer ") == ["adam", "sgd"]
    assert completed("heart train evaluate --reca") == ["--recalibrate"]


@pytest.fixture
def completed(tmp_path: Path) -> Callable[[str], list[str]]:
    """Return what bash offers after a line, with the code that `heart completion bash` prints."""
    command = tmp_path / "heart"
    command.write_text(f'#!/bin/sh\nexec {" ".join(HEART)} "$@"\n')
    command.chmod(0o755)

    def offered(line: str) -> list[str]:
        words = line.split(" ")
        script = f"""
source <(heart completion bash)
compopt() {{ :; }}  # works only in a completion that readline started
COMP_WORDS=({" ".join(word or "''" for word in words)}); COMP_CWORD={len(words) - 1}
_heart_completion heart
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
        env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        return done.stdout.split()

    return offered


def test_bash_completes_commands_flags_codes_and_choices(completed: Callable[[str], list[str]]) -> None:
    """They come from the record and the settings."""
    assert completed("heart ") == [*heart.commands]
    assert completed("heart predict --cp a") == ["atypical-angina", "asymptomatic"]
    assert "--trestbps" in completed("heart explain --t")
    assert completed("heart score --on-error ") == ["refuse", "report"]
    assert completed("heart serve --provider ") == ["auto", "cuda", "cpu"]
    assert completed("heart serve --max-st") == ["--max-streams", "--max-stall"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_code(shell: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0
    assert f"_HEART_COMPLETE={shell}_complete" in done.stdout


def test_a_closed_pipe_gives_no_traceback() -> None:
    """As in `heart explain ... | head -1`."""
    words = " ".join(word for name, value in EXAMPLE.items() for word in (f"--{name}", str(value)))
    line = f"{' '.join(HEART)} explain {words} | head -1"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert "Probability" in done.stdout
