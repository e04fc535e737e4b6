"""No telemetry."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MODELS, ROOT


@pytest.mark.parametrize("package", ["service", "trainer"])
def test_onnx_runtime_sends_no_telemetry(package: str, tmp_path: Path) -> None:
    """It is on by default, and begins with an identifier of this machine in the user's home folder."""
    code = f"import {package}, onnxruntime; onnxruntime.InferenceSession({str(MODELS / '2/model.onnx')!r})"
    # Without our environment: ONNX Runtime turns telemetry off by itself in continuous integration.
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []
