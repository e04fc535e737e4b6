"""What the Dockerfile promises of the images that come out of it."""

import json
import re
import subprocess
import sys
import tomllib

import pytest

from tests.conftest import ROOT
from tests.deploy.tools import run
from tests.e2e.serving import free_port, serving

Instruction = tuple[str, str]
TARGETS = ["trainer", "service", "proxy"]


def stages() -> dict[str, list[Instruction]]:
    """Each stage's instructions, and under FROM what it starts from."""
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
    """What a stage says under one instruction."""
    return [rest for found, rest in STAGES[target] if found == word]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_a_user_without_rights(target: str) -> None:
    """By number, so that a cluster's admission can check it, and without a shell in between that eats signals."""
    assert of(target, "USER")[-1] == "10001"
    assert isinstance(json.loads(of(target, "ENTRYPOINT")[0]), list)


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_says_what_it_is(target: str) -> None:
    """In the labels that registries show, with the project's version."""
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', " ".join(of(target, "LABEL"))))
    assert labels.pop("title") == f"heart-{target}"
    assert set(labels) == {"description", "version"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert of(target, "ARG") == [f"VERSION={project['version']}"]


@pytest.mark.parametrize("target", ["trainer", "service"])
def test_packages_are_wheels_with_hashes_and_no_installer_follows_them(target: str) -> None:
    """So no compiler is needed, nothing unseen is run, and the final stage installs nothing."""
    install = dict(value.split("=", 1) for value in of("empty", "ENV"))["INSTALL"]
    assert "--without-pip" in of("empty", "RUN")[0]
    for flag in ("--no-cache-dir", "--only-binary :all:", "--require-hashes"):
        assert flag in install
    assert of(f"{target}-packages", "FROM") == ["empty"]
    assert of(f"{target}-packages", "RUN")[0].startswith("$INSTALL lock.txt")
    assert not of(target, "RUN")


@pytest.mark.parametrize("lock", ["", "-cuda"])
@pytest.mark.parametrize("target", ["trainer", "service"])
def test_an_image_has_a_lock_with_and_without_cuda(target: str, lock: str) -> None:
    """With, unless the build says otherwise; cuBLAS, which ONNX Runtime's own extra forgets, is named."""
    assert of(f"{target}-packages", "ARG") == [f"{target.upper()}_LOCK={target}-cuda"]
    text = (ROOT / f"locks/{target}{lock}.txt").read_text()
    assert bool(re.search("^nvidia-cublas", text, re.MULTILINE)) == bool(lock)


def test_bases_are_pinned() -> None:
    """By a tag that names a version."""
    for start in (of(stage, "FROM")[0] for stage in STAGES):
        assert start in STAGES or re.search(r":\d+\.\d+", start), start


def test_only_what_is_copied_is_sent_to_the_engine() -> None:
    """A key, a data set or a .git folder that lies here never comes near an image."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    copied = {re.split(r"[/ ]\$|\s", rest)[0] for stage in STAGES for rest in of(stage, "COPY") if "--from" not in rest}
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_the_health_check_tells_a_ready_service_from_none() -> None:
    """The very command of the Dockerfile, against a service and against a free port."""
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
    """Its rules are the trade's."""
    run("hadolint", "Dockerfile")


def test_shellcheck_finds_nothing() -> None:
    """In the scripts of deploy/."""
    run("shellcheck", *(str(script) for script in (ROOT / "deploy").rglob("*.sh")))
