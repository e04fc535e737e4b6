"""The wheel, installed outside the repository with the service's packages alone, has a model and serves it."""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from patient.artefact import versions
from patient.record import EXAMPLE
from tests.conftest import MODELS, ROOT
from tests.e2e.page.browser import post
from tests.e2e.serving import get, serving
from tests.locks import link_locked

SOURCES = ("patient", "service", "trainer", "models", "heart.py", "setup.py", "pyproject.toml", "README.md")
# pip's own settings and PYTHONPATH would let in more than the wheel and the locked packages.
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-qq"]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of `heart` in an environment with the wheel and the packages of locks/service.txt."""
    source, environment, packages = (tmp_path_factory.mktemp(name) for name in ("source", "environment", "packages"))
    for name in SOURCES:  # a copy, because building leaves files beside the sources
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    build = [*PIP, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", "wheels", "."]
    subprocess.run(build, cwd=source, env=ENVIRONMENT, check=True)
    venv.create(environment, symlinks=True)
    (wheel,) = (source / "wheels").iterdir()
    install = [*PIP, "--python", str(environment / "bin/python"), "install", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(install, env=ENVIRONMENT, check=True)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    # A folder named in a .pth file is searched, and its own .pth files are not read: the repository stays out.
    (site_packages / "locked.pth").write_text(str(link_locked("service", packages)))
    shutil.rmtree(source)
    return str(environment / "bin/heart")


def test_heart_predict_runs_with_the_models_of_the_wheel(command: str, tmp_path: Path) -> None:
    """Any current folder will do; the answer names the version."""
    words = [command, "predict", "--age", "63", "--sex", "male"]
    done = subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "%" in done.stdout
    assert f"version {versions(MODELS)[-1]}" in done.stdout + done.stderr
    assert not [*tmp_path.iterdir()]


@pytest.fixture
def port(command: str, tmp_path: Path) -> Iterator[int]:
    """`heart serve` in an empty folder."""
    clean = ("env", "-i", *(f"{name}={value}" for name, value in ENVIRONMENT.items()))
    words = (*clean, command, "serve", "--provider", "cpu", "--port", "{port}", "--drain", "0")
    with serving(command=words, folder=tmp_path) as (number, _):
        yield number


def test_heart_serve_runs_with_the_models_of_the_wheel(port: int) -> None:
    """The page, the documentation and the page for clinicians are part of the wheel."""
    assert "<form" in get(port, "/")
    assert "swagger" in get(port, "/docs").lower()
    assert "clinicians" in get(port, "/clinicians").lower()
    answer = json.loads(post(port, "/predict", json.dumps(EXAMPLE).encode(), "application/json"))
    assert answer["model_version"] == str(versions(MODELS)[-1])
