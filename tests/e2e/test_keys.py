"""API keys on a running service: changed without a restart, in every worker, and sent by the command."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from patient.record import EXAMPLE, FIELDS
from service.http.api_keys import new_key
from tests.conftest import ROOT
from tests.e2e.serving import Connection, free_port, request, serving


def statuses(port: int, key: str, connections: int = 12) -> set[int]:
    """The statuses that a key gets, over enough connections to reach every worker."""
    head, _, body = request("/predict", EXAMPLE).partition(b"\r\n\r\n")
    asked = head + f"\r\nX-API-Key: {key}\r\n\r\n".encode() + body

    async def work() -> set[int]:
        found = set()
        for _ in range(connections):
            connection = await Connection.to(port)
            connection.writer.write(asked)
            found.add((await connection.answer())[0])
            connection.close()
        return found

    return asyncio.run(work())


def until(port: int, key: str, status: int) -> None:
    """Wait until every worker responds to a key with this status."""
    for _ in range(100):
        if statuses(port, key) == {status}:
            return
        time.sleep(0.1)
    raise AssertionError(f"never {status}")


def test_two_workers_apply_changes_of_the_key_file(tmp_path: Path) -> None:
    """Within seconds, without a restart; an invalid file changes nothing."""
    (old, first), (young, second) = new_key("ward-7"), new_key("ward-7")
    file = tmp_path / "keys"
    file.write_text(first)
    with serving("--workers", "2", "--keys", str(file)) as (port, _):
        assert statuses(port, old) == {200}
        assert statuses(port, young) == {401}
        file.write_text(f"{first}\n{second}")
        until(port, young, 200)
        assert statuses(port, old) == {200}
        file.write_text("half a li")
        time.sleep(1.5)  # longer than the time between two checks of the file
        assert statuses(port, old) == {200}
        (tmp_path / "next").write_text(second)
        (tmp_path / "next").rename(file)
        until(port, old, 401)
        assert statuses(port, young) == {200}


def test_files_are_scored_by_a_service_that_requires_keys(tmp_path: Path) -> None:
    """The key is in the environment; without a valid one the command names the status, never the key."""
    key, line = new_key("nightly")
    (tmp_path / "keys").write_text(line)
    (tmp_path / "in.csv").write_text(",".join(FIELDS) + "\n" + ",".join(str(EXAMPLE[name]) for name in FIELDS) + "\n")
    with serving("--keys", str(tmp_path / "keys")) as (port, _):
        command = [sys.executable, "-m", "service", "score", str(tmp_path / "in.csv"), str(tmp_path / "out.ndjson")]
        for sent, status in ((key, 0), (None, 1), ("heart_wrong", 1)):
            variables = {name: value for name, value in os.environ.items() if name != "HEART_KEY"}
            done = subprocess.run(
                [*command, "--url", f"http://127.0.0.1:{port}"],
                cwd=ROOT,
                env=variables | ({"HEART_KEY": sent} if sent else {}),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == status, done.stderr
            assert "heart_" not in done.stderr
            assert ("401" in done.stderr) == bool(status)
    assert 0 < json.loads((tmp_path / "out.ndjson").read_text())["probability"] < 1


@pytest.mark.parametrize("flags", [["--host", "0.0.0.0"], ["--keys", "/nowhere/keys"]])
def test_a_service_with_unsafe_settings_does_not_start(flags: list[str]) -> None:
    """The error is one line, without a traceback."""
    command = [sys.executable, "-m", "service", "--port", str(free_port()), *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("service: ")
