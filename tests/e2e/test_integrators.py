"""What docs/integrators.md says, done as it says it."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

import service.client
from service.client import ServiceError
from tests.conftest import ROOT
from tests.service.cli.score.conftest import patients, read, write

PAGE = (ROOT / "docs/integrators.md").read_text()


def blocks(language: str) -> list[str]:
    """The page's examples in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_curl_command_answers(port: int) -> None:
    """With the probability that the README tells of the same patient."""
    [command] = blocks("sh")
    env = os.environ | {"HEART_KEY": "none"}
    line = command.replace(":8000", f":{port}")
    done = subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert f'"probability":{told["probability"]}' in (ROOT / "README.md").read_text()


def test_the_python_examples_run(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other, as in one program; the error that it shows is the one that it expects."""
    write(tmp_path / "patients.csv", patients(20))
    monkeypatch.chdir(tmp_path)
    code = (
        "".join(blocks("python")).replace(":8000", f":{port}").replace("Client()", f'Client("http://127.0.0.1:{port}")')
    )
    exec(code, {})
    said = capsys.readouterr().out.splitlines()
    assert "100001" in said
    assert said[-4].split() == ["mrn", "probability", "heart_disease", "missing"]
    assert any("/chol" in line for line in said)
    assert not any("failed:" in line for line in said)
    scored = read(tmp_path / "scored.parquet")
    assert [row["mrn"] for row in scored] == [str(number) for number in range(20)]


def test_every_exception_is_on_the_page() -> None:
    """In the table of errors, by the name that it is imported by."""
    kinds = [getattr(service.client, name) for name in service.client.__all__]
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, ServiceError):
            assert f"`{kind.__name__}`" in PAGE or f"`{kind.__name__}:" in PAGE
