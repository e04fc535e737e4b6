"""Where patients' data are, nothing reports home."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MODELS, ROOT


@pytest.mark.parametrize("room", ["service", "trainer"])
def test_onnx_runtime_tells_nobody_what_it_runs(room: str, tmp_path: Path) -> None:
    """Its telemetry is on by default, and begins with a number for this machine, kept in the user's home."""
    code = f"import {room}, onnxruntime; onnxruntime.InferenceSession({str(MODELS / '2/model.onnx')!r})"
    # An environment of its own: continuous integration, for one, would silence it anyway.
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []
