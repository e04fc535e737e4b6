"""Images of the Dockerfile."""

import json
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.deploy.tools import run
from tests.e2e.serving import free_port, serving

Instruction = tuple[str, str]
TARGETS = ["trainer", "service", "proxy"]


def stages() -> dict[str, list[Instruction]]:
    """The instructions of each stage; that of FROM is the base image or stage."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[Instruction]] = {}
    for word, _, rest in (line.partition(" ") for line in text.splitlines() if line):
        if word == "FROM":
            start, _, name = rest.partition(" AS ")
            found[name] = current = []
            rest = start
        current.append((word, " ".join(rest.split())))
    return found


STAGES = stages()


def of(target: str, word: str) -> list[str]:
    """The arguments of all instructions of this name in a stage."""
    return [rest for found, rest in STAGES[target] if found == word]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_a_user_without_rights(target: str) -> None:
    """By number, which a cluster can check before it starts the image; without a shell, which would keep signals."""
    assert of(target, "USER")[-1] == "10001"
    assert isinstance(json.loads(of(target, "ENTRYPOINT")[0]), list)


def test_only_what_is_copied_is_sent_to_the_engine() -> None:
    """A key, a data set or the .git folder never reaches the engine."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    copied = {re.split(r"[/ ]\$|\s", rest)[0] for stage in STAGES for rest in of(stage, "COPY") if "--from" not in rest}
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_the_health_check_fails_without_a_ready_service() -> None:
    """The command of the Dockerfile, run against a service and against a free port."""
    flags, _, command = of("service", "HEALTHCHECK")[0].partition(" CMD ")
    assert "--timeout" in flags
    words: list[str] = json.loads(command)

    def check(port: int) -> int:
        code = words[2].replace("8000", str(port))
        return subprocess.run([sys.executable, words[1], code], capture_output=True, check=False).returncode

    with serving() as (port, _):
        assert check(port) == 0
    assert check(free_port()) != 0


def test_hadolint_finds_nothing() -> None:
    run("hadolint", "Dockerfile")


def test_shellcheck_finds_nothing() -> None:
    run("shellcheck", *(str(script) for script in (ROOT / "deploy").rglob("*.sh")))
