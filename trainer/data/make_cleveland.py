"""Rebuild cleveland.csv from its source, and check its digest.

Usage: python trainer/data/make_cleveland.py

The source is Orange/datasets/heart_disease.tab in the PyPI package orange3 3.40.0: the 303 records of UCI's
processed.cleveland.data in the same order, with labels instead of codes. `pip download` fetches the package.
"""

import csv
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TARGET = Path(__file__).with_name("cleveland.csv")
SHA256 = "dee6cc4854aeda6daf444110de51698a4f24a778ae207f409732ea191ce3a6c7"

HEADER = "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal,target"
CODES = {  # UCI's code for each label of the source
    "sex": {"female": "0", "male": "1"},
    "cp": {"typical ang": "1", "atypical ang": "2", "non-anginal": "3", "asymptomatic": "4"},
    "restecg": {"normal": "0", "ST-T abnormal": "1", "left vent hypertrophy": "2"},
    "slope": {"upsloping": "1", "flat": "2", "downsloping": "3"},
    "thal": {"normal": "3", "fixed defect": "6", "reversable defect": "7"},
}


def source() -> str:
    """Download the package and return the table in it."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, "orange3==3.40.0"]
        subprocess.run(pip, check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            return wheel.read("Orange/datasets/heart_disease.tab").decode()


def convert(table: str) -> bytes:
    """Replace labels by codes, '?' by empty cells, and the three header lines by one."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = HEADER.split(",")
    writer.writerow(columns)
    for line in table.splitlines()[3:]:
        cells = zip(columns, line.split("\t"), strict=True)
        writer.writerow("" if cell == "?" else CODES.get(column, {}).get(cell, cell) for column, cell in cells)
    return out.getvalue().encode()


if __name__ == "__main__":
    made = convert(source())
    digest = hashlib.sha256(made).hexdigest()
    if digest != SHA256:
        sys.exit(f"The source gives a file with SHA-256 {digest}, expected {SHA256}; nothing was written.")
    TARGET.write_bytes(made)
    sys.stdout.write(f"{TARGET.name}: 303 records, SHA-256 {digest}\n")
