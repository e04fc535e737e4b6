"""What the tests ask the machine for: small disks, a process's memory, and services that stand on either."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SPOIL = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]


def on_small_disk(place: Path, size: str, *command: str) -> list[str]:
    """The command, as it runs where a disk of this size lies at `place`, which goes with it; others do not see it."""
    place.mkdir(exist_ok=True)
    script = f'mount -t tmpfs -o size={size} none "{place}" && exec "$@"'
    if (
        not shutil.which("unshare")
        or subprocess.run([*SPOIL, "sh", "-c", script, "sh", "true"], check=False).returncode
    ):
        pytest.skip("nobody may mount here")
    return [*SPOIL, "sh", "-c", script, "sh", *command]


def memory(process: int, what: str = "VmHWM") -> float:
    """MiB of a process: VmHWM, its peak, or VmRSS, what it has now."""
    found = re.search(rf"{what}:\s*(\d+)", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1]) / 1024


def descriptors(process: int) -> int:
    """How many files and connections it has open."""
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def until(true: Callable[[], bool], seconds: float = 30) -> float:
    """Wait for something; seconds that it took."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds
        time.sleep(0.01)
    return time.monotonic() - begun
