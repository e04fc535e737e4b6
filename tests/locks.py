"""What the locks pin, and environments that hold nothing else."""

import importlib.metadata
import re
from pathlib import Path

from tests.conftest import ROOT


def locked(name: str) -> set[str]:
    """The distributions in locks/<name>.txt, in pip's spelling."""
    lines = (ROOT / f"locks/{name}.txt").read_text().splitlines()
    return {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines if "==" in line}


def link_locked(name: str, folder: Path) -> Path:
    """Fill the folder with links to the installed packages that locks/<name>.txt lists, and return it."""
    for distribution in locked(name):
        try:
            found = importlib.metadata.distribution(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            link = folder / top
            if not link.exists():
                link.symlink_to(str(found.locate_file(top)))
    return folder
