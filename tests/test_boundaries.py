"""The rooms keep their doors: who may import whom."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FORBIDDEN = {
    "patient": {"trainer", "service", "heart", "fastapi", "tensorflow", "keras", "onnxruntime"},
    "trainer": {"service", "heart", "fastapi"},
    "service": {"trainer", "heart", "tensorflow", "keras"},
}
BUILD = "build"  # the lock of what installs the command, and of nothing that runs


def imports(file: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_room_imports_what_it_must_not(room: str) -> None:
    """trainer and service never meet; both stand on patient, which knows neither."""
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        assert not imports(file) & FORBIDDEN[room], file


def locked(name: str) -> set[str]:
    """The distributions that a lock installs on this machine, as pip spells them."""
    lines = (ROOT / f"locks/{name}.txt").read_text().splitlines()
    return {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines if "==" in line}


def test_the_service_runs_with_its_own_dependencies_alone(tmp_path: Path) -> None:
    """An environment that holds what locks/service.txt lists, and nothing else, is enough to load a model."""
    for name in locked("service"):
        try:
            files = importlib.metadata.distribution(name).files or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            link = tmp_path / top
            if not link.exists():
                link.symlink_to(Path(str(importlib.metadata.distribution(name).locate_file(top))))
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]
from service.app import create_app
from service.model.predictor import load
from service.settings import Settings
assert create_app(Settings(), load(__import__("pathlib").Path({str(ROOT / "models/heart_disease")!r}), "cpu"))
for absent in ("tensorflow", "keras", "sklearn", "matplotlib", "httpx2", "onnx", "ray"):
    try:
        __import__(absent)
    except ImportError:
        continue
    raise SystemExit(absent + " is here")
"""
    # -S leaves out site-packages, -I the current folder and the environment: only sys.path above is left.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def loaded(code: str) -> set[str]:
    """The top-level packages that a Python of its own has loaded after it ran this."""
    shown = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", shown], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_client_needs_pydantic_alone() -> None:
    """Whoever calls the service need not have it: neither its server nor its model's runtime is loaded, nor numpy."""
    heavy = {"fastapi", "starlette", "uvicorn", "msgspec", "numpy", "onnxruntime", "pyarrow", "rich", "click"}
    assert not loaded("import service.client") & heavy


def test_a_door_opens_one_room() -> None:
    """The command loads neither room to say what it can do, and no trainer for one patient."""
    assert not loaded("from heart import heart\nheart(['--help'], standalone_mode=False)") & {"service", "trainer"}
    asked = "from heart import heart\nheart(['predict', '--age', '63', '--sex', 'male'], standalone_mode=False)"
    assert not loaded(asked) & {"trainer", "tensorflow", "fastapi", "pyarrow"}


def test_the_services_own_set_is_small() -> None:
    """Neither the trainer's libraries nor the development tools travel with the service."""
    assert not locked("service") & {"tensorflow", "keras", "scikit-learn", "matplotlib", "tf2onnx", "ray", "pytest"}
    assert len(locked("service")) < 40


LOCKS = [
    file.relative_to(ROOT) for folder in ("locks", "benchmarks/peers/locks") for file in (ROOT / folder).glob("*.txt")
]


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_locks_pin_with_hashes_and_name_no_registry(lock: Path) -> None:
    """What is installed is what was resolved, from whichever registry this machine uses."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "--index" not in text
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[\w.-]+(\[[\w,]+\])?==\S+", block), block
        assert "--hash=sha256:" in block


@pytest.mark.parametrize("lock", ["dev", "ray", "service", "service-cuda", "trainer", "trainer-cuda"])
def test_onnxruntime_and_its_gpu_build_never_meet(lock: str) -> None:
    """Both own one import name; on Linux x86-64 it is the GPU build."""
    lines = (ROOT / f"locks/{lock}.txt").read_text().splitlines()
    found = {line.partition("==")[0]: line.partition(" ; ")[2].rstrip(" \\") for line in lines if "onnxruntime" in line}
    assert found == {
        "onnxruntime": "platform_machine != 'x86_64' or sys_platform != 'linux'",
        "onnxruntime-gpu": "platform_machine == 'x86_64' and sys_platform == 'linux'",
    }
