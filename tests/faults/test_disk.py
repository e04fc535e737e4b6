"""Disks that are full."""

import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from patient.record import EXAMPLE
from tests.conftest import CLEVELAND, ROOT, Outcome
from tests.e2e.serving import COMMAND, get, serving
from tests.faults.machine import on_small_disk

ROWS = 150_000  # whose answers are above 8 MiB, what the service holds in memory


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A large table of which no two rows are alike."""
    rng = np.random.default_rng(1)
    rows = pa.table({name: np.full(ROWS, value) for name, value in EXAMPLE.items()})
    rows = rows.set_column(4, "chol", pa.array(rng.uniform(100, 500, ROWS).round(3)))
    pyarrow.csv.write_csv(rows, tmp_path / "many.csv")
    pyarrow.parquet.write_table(rows, tmp_path / "many.parquet", use_dictionary=False, compression=None)
    return tmp_path / "many.csv"


def test_a_full_disk_ends_the_training_and_leaves_no_half_version(tmp_path: Path, outcome: Outcome) -> None:
    """One line, a failing exit status, and models/ as it was."""
    flags = f"--data {CLEVELAND} --models {tmp_path}/disk --epochs 1 --repeats 0"
    line = (
        f"{sys.executable} -m trainer fit {flags}; status=$?; ls -A {tmp_path}/disk | sed 's/^/there: /'; exit $status"
    )
    command = on_small_disk(tmp_path / "disk", "12k", "sh", "-c", line)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "there: " not in done.stdout
    outcome(done.stderr.strip().splitlines()[-1])


@pytest.mark.parametrize("to", ["csv", "parquet", "ndjson.gz"])
def test_a_full_disk_ends_the_scoring_and_leaves_no_half_answer(
    tmp_path: Path, many: Path, to: str, outcome: Outcome
) -> None:
    """The file that had the name before is still there, whole, and no hidden one beside it."""
    out = tmp_path / "disk" / f"out.{to}"
    line = f"echo before > {out}; {sys.executable} -m service score --provider cpu {many} {out}; status=$?; "
    line += f"ls -A {out.parent}; wc -c < {out}; exit $status"
    command = on_small_disk(out.parent, "500k", "sh", "-c", line)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "o space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.split() == [out.name, "7"]
    outcome(f"{to}: {done.stderr.strip().splitlines()[-1]}")


def post(port: int, file: Path, kind: str, query: str = "") -> tuple[int, bytes]:
    """Status and answer, as NDJSON, of a table."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": kind, "Accept": "application/x-ndjson"}
    connection.request("POST", f"/predict/batch{query}", file.read_bytes(), headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def test_a_full_disk_refuses_the_tables_that_need_it_and_no_others(
    tmp_path: Path, many: Path, outcome: Outcome
) -> None:
    """507 for what must be set aside, and nothing of it stays there; what streams is answered as ever."""
    disk = tmp_path / "disk"
    command = on_small_disk(disk, "1m", "env", f"TMPDIR={disk}", *COMMAND)
    with serving(command=tuple(command)) as (port, server):
        for file, kind in ((many, "text/csv"), (many.with_suffix(".parquet"), "application/vnd.apache.parquet")):
            status, answer = post(port, file, kind)
            assert (status, json.loads(answer)["detail"]) == (
                507,
                "There is no disk space left to buffer the table.",
            )
        assert not list(Path(f"/proc/{server}/root{disk}").iterdir())
        status, answer = post(port, many, "text/csv", "?on_error=report")
        assert (status, answer.count(b"probability")) == (200, ROWS)
        assert json.loads(get(port, "/health/ready"))["status"] == "ready"
        outcome("507 for CSV that may be refused and for Parquet; the same CSV with on_error=report is answered")


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/predict/batch", "application/json"), ("/predict/batch?on_error=report", "application/x-ndjson")],
)
def test_a_full_disk_refuses_a_response_that_http_1_0_needs_whole(
    tmp_path: Path, path: str, kind: str, outcome: Outcome
) -> None:
    """507, and the file is gone; a short one is answered."""
    disk = tmp_path / "disk"
    record = json.dumps(dict.fromkeys(EXAMPLE) | {"age": 63, "sex": 1})  # a long response: it names what is missing
    many = f"[{','.join([record] * 10_000)}]" if kind == "application/json" else f"{record}\n" * 40_000
    with serving(command=tuple(on_small_disk(disk, "500k", "env", f"TMPDIR={disk}", *COMMAND))) as (port, server):
        for body, expected in ((many, 507), (f"[{record}]" if kind == "application/json" else record, 200)):
            head = f"POST {path} HTTP/1.0\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(head.encode() + body.encode())
                answer = connection.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 %d " % expected), answer[:500]
            assert b"no disk space left to hold" in answer or expected == 200
        assert not list(Path(f"/proc/{server}/root{disk}").iterdir())
        outcome(f"{kind}: 507 if it is long")
