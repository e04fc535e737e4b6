"""Shared by the benchmarks of tables: tables of patients, encoded in every format, and a server on its own core."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from patient.record import FIELDS, measurements
from service.tables.formats import ARROW, CSV, NDJSON, PARQUET, Format
from trainer.dataset import read

ROOT = Path(__file__).parents[1]
NAMES = {ARROW: "Arrow", PARQUET: "Parquet", CSV: "CSV", NDJSON: "NDJSON"}


def patients(count: int) -> pa.Table:
    """Patients drawn from the data set; whole numbers as integers, as in an export."""
    data = read(ROOT / "trainer/data/cleveland.csv")
    drawn = np.random.default_rng(0).choice(data.rows.astype(np.float64), count)
    columns = [pa.array(column, from_pandas=True) for column in drawn.round(1).T]
    whole = [name != "oldpeak" for name in FIELDS]
    return pa.table([c.cast(pa.int64()) if w else c for c, w in zip(columns, whole, strict=True)], FIELDS)


def small(table: pa.Table) -> pa.Table:
    """The same patients in the smallest types that can hold them."""
    kinds = [pa.int8() if field.codes else pa.float32() for field in measurements()]
    return table.cast(pa.schema(zip(FIELDS, kinds, strict=True)), safe=False)


def body(format_: Format, table: pa.Table) -> bytes:
    """Encode a table as a client would send it."""
    out = io.BytesIO()
    if format_ is ARROW:
        with pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=2**16)
    elif format_ is PARQUET:
        pa.parquet.write_table(table, out)
    elif format_ is CSV:
        pa.csv.write_csv(table, out)
    elif format_ is NDJSON:
        out.write("".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode())
    else:
        out.write(json.dumps(table.to_pylist()).encode())
    return out.getvalue()


class Server:
    """A server process on core 0."""

    def __init__(self, *command: str, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        pinned = ["taskset", "-c", "0", sys.executable, "-m", *command, "--port", str(self.port)]
        null, variables = subprocess.DEVNULL, os.environ | environment
        self.process = subprocess.Popen(pinned, cwd=ROOT, env=variables, stdout=null, stderr=null)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                assert self.process.poll() is None
                time.sleep(0.1)

    def cpu(self) -> float:
        """Seconds of CPU time so far."""
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    def peak(self) -> float:
        """Peak memory in MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

    def post(self, format_: Format, content: bytes | Iterator[bytes], query: str = "") -> HTTPResponse:
        """Send a body while the response arrives."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        head = f"POST /predict/batch{query} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {format_.media_type}\r\n"
        length = f"Content-Length: {len(content)}" if isinstance(content, bytes) else "Transfer-Encoding: chunked"

        def send() -> None:
            connection.sendall(f"{head}{length}\r\n\r\n".encode())
            if isinstance(content, bytes):
                connection.sendall(content)
                return
            for piece in content:
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            connection.sendall(b"0\r\n\r\n")

        threading.Thread(target=send, daemon=True).start()
        response = HTTPResponse(connection, method="POST")
        response.begin()
        if response.status != 200:
            raise RuntimeError(response.read().decode())
        return response

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


@contextmanager
def serving(*command: str, **environment: str) -> Iterator[Server]:
    """Run a server within the context."""
    server = Server(*command, **environment)
    try:
        yield server
    finally:
        server.close()


OURS = ("service", "--provider", "cpu", "--log-level", "error")
