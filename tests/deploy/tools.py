"""Programs that a machine may lack."""

import shutil
import subprocess

import pytest

from tests.conftest import ROOT


def run(*command: str) -> str:
    """Run a program, which must succeed, and return its stdout; skip the test where it is not installed."""
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
