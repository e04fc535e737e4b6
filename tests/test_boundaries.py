"""What packages import, and what the locks hold."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MODELS, ROOT
from tests.locks import link_locked, locked


def test_an_import_against_the_layers_fails_the_check(tmp_path: Path) -> None:
    for package in ("patient", "service", "trainer"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "*.csv"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]

    def check() -> tuple[int, str]:
        # Without PYTHONPATH, which could lead to the packages of the repository.
        done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert check()[0] == 0
    with (tmp_path / "service/records/results.py").open("a") as file:
        file.write("\nfrom service.api.predict import router\n")
    status, output = check()
    assert status == 1
    assert "Packages of service import only those below them BROKEN" in output
    assert re.search(r"service\.records\.results -> service\.api\.predict", output)


def test_the_service_runs_with_its_own_dependencies_alone(tmp_path: Path) -> None:
    """An environment that holds only what locks/service.txt lists is enough to load a model."""
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(link_locked("service", tmp_path))!r}]
from pathlib import Path
from service.app import create_app
from service.model.loading import load
from service.settings import Settings
assert create_app(Settings(), load(Path({str(MODELS)!r}), "cpu"))
for absent in ("tensorflow", "keras", "sklearn", "matplotlib", "httpx2", "onnx", "ray"):
    try:
        __import__(absent)
    except ImportError:
        continue
    raise SystemExit(absent + " can be imported")
"""
    # -S leaves out site-packages, -I the current folder and the environment: only sys.path above is left.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def loaded(code: str) -> set[str]:
    """The top-level packages that a new interpreter has loaded after it ran the code."""
    shown = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", shown], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_client_loads_pydantic_alone() -> None:
    """A program that calls the service needs neither its server nor its model runtime, nor numpy."""
    heavy = {"fastapi", "starlette", "uvicorn", "msgspec", "numpy", "onnxruntime", "pyarrow", "rich", "click"}
    assert not loaded("import service.client") & heavy


def test_heart_help_loads_neither_service_nor_trainer() -> None:
    assert not loaded("from heart import heart\nheart(['--help'], standalone_mode=False)") & {"service", "trainer"}


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_heart_loads_no_server_for_one_patient(command: str) -> None:
    code = f"from heart import heart\nheart(['{command}', '--age', '63', '--sex', 'male'], standalone_mode=False)"
    assert not loaded(code) & {"trainer", "tensorflow", "fastapi", "starlette", "uvicorn", "pyarrow"}


def test_the_service_needs_few_packages() -> None:
    """Neither the trainer's libraries nor the development tools are installed with the service."""
    assert not locked("service") & {"tensorflow", "keras", "scikit-learn", "matplotlib", "tf2onnx", "ray", "pytest"}
    assert len(locked("service")) < 40


LOCKS = [
    file.relative_to(ROOT) for folder in ("locks", "benchmarks/peers/locks") for file in (ROOT / folder).glob("*.txt")
]


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_locks_pin_with_hashes_and_name_no_registry(lock: Path) -> None:
    """An installation gets the files that were resolved, from the registry that the machine is set up for."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "--index" not in text
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[\w.-]+(\[[\w,]+\])?==\S+", block), block
        assert "--hash=sha256:" in block


@pytest.mark.parametrize("lock", ["dev", "ray", "service", "service-cuda", "trainer", "trainer-cuda"])
def test_locks_never_hold_both_builds_of_onnxruntime(lock: str) -> None:
    """Both install the package onnxruntime; on Linux x86-64 it is the GPU build."""
    lines = (ROOT / f"locks/{lock}.txt").read_text().splitlines()
    found = {line.partition("==")[0]: line.partition(" ; ")[2].rstrip(" \\") for line in lines if "onnxruntime" in line}
    assert found == {
        "onnxruntime": "platform_machine != 'x86_64' or sys_platform != 'linux'",
        "onnxruntime-gpu": "platform_machine == 'x86_64' and sys_platform == 'linux'",
    }
