"""Schemathesis against the service's own OpenAPI document: `python -m tests.fuzz.openapi SCHEMATHESIS EXAMPLES`."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.e2e.serving import serving

CONFIG = Path(__file__).with_name("schemathesis.toml")


def main(schemathesis: str, examples: str) -> int:
    """Run it and return its exit status. examples: the most per path and phase."""
    with serving("--log-level", "error") as (port, _), tempfile.TemporaryDirectory() as folder:
        command = [str(Path(schemathesis).absolute()), "--config-file", str(CONFIG), "run"]
        command += ["--max-examples", examples, "--continue-on-failure", "--warnings", "off", "--no-color"]
        command.append(f"http://127.0.0.1:{port}/openapi.json")
        return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
