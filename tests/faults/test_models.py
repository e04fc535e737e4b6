"""Model files that vanish or change while they serve, and models that have no number for an answer."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pyarrow as pa
import pytest

from patient.artefact import FILE, versions
from patient.record import EXAMPLE
from tests.conftest import MODELS, ROOT, Outcome
from tests.e2e.serving import COMMAND, get, request, serving
from tests.e2e.test_workers import until_both_serve, workers
from tests.faults.machine import until

NEWEST = str(versions(MODELS)[-1])
# Root reads whatever it may not, unless it gives that right up.
PLAIN = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def swapped(file: Path, content: bytes) -> None:
    """Another file under the same name."""
    (file.parent / "new").write_bytes(content)
    (file.parent / "new").rename(file)


SPOILT: dict[str, Callable[[Path], None]] = {
    "deleted": lambda models: shutil.rmtree(models),
    "truncated": lambda models: os.truncate(models / NEWEST / FILE, 3000),
    "garbage": lambda models: swapped(models / NEWEST / FILE, b"garbage" * 1000),
    "no permission": lambda models: models.chmod(0),
}


def post(port: int, body: bytes, path: str = "/predict", kind: str = "application/json") -> tuple[int, bytes]:
    """Status and answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, body, {"Content-Type": kind})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def test_what_becomes_of_the_files_does_not_touch_what_serves(tmp_path: Path, outcome: Outcome) -> None:
    """Each fault in turn; a worker that is killed meanwhile comes back once the files are whole again."""
    models = tmp_path / "models"
    shutil.copytree(MODELS, models)
    body = json.dumps(EXAMPLE).encode()
    flags = ("--models", str(models), "--workers", "2")
    with serving(*flags, command=(*PLAIN, *COMMAND)) as (port, supervisor):
        until_both_serve(port)
        expected = post(port, body)
        assert expected[0] == 200
        for name, spoil in SPOILT.items():
            spoil(models)
            for _ in range(4):
                assert post(port, body) == expected, name
                assert post(port, b"[%s]" % body, "/predict/batch")[0] == 200, name
                assert post(port, b"%s\n" % body, "/predict/batch", "application/x-ndjson")[0] == 200, name
            if models.exists():
                models.chmod(0o755)
                shutil.rmtree(models)
            shutil.copytree(MODELS, models)
        shutil.rmtree(models)
        killed = workers(supervisor)[0]
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in workers(supervisor))
        for _ in range(20):
            assert post(port, body) == expected  # the other one
        shutil.copytree(MODELS, models)
        seconds = until(lambda: json.loads(get(port, "/health/ready"))["workers"] == 2)
        outcome(f"{', '.join(SPOILT)}: same answers; a worker killed without models/: back {seconds:.1f} s after them")


@pytest.mark.parametrize("name", SPOILT)
def test_a_start_says_in_one_line_what_is_wrong(name: str, tmp_path: Path) -> None:
    """And ends, with a failing status, rather than serve without a model."""
    models = tmp_path / "models"
    shutil.copytree(MODELS / NEWEST, models / NEWEST)
    SPOILT[name](models)
    command = [*PLAIN, sys.executable, "-m", "service", "--provider", "cpu", "--port", "0", "--models", str(models)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    if models.exists():
        models.chmod(0o755)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("service: will not start: ")
    assert "Traceback" not in done.stderr


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    """A model that answers everybody of up to 100 years, and has NaN for the rest."""
    model = onnx.load(MODELS / NEWEST / FILE)
    graph = model.graph
    last = next(node for node in graph.node if "probability" in node.output)
    last.output[list(last.output).index("probability")] = "sound"
    age = onnx.parser.parse_graph("""odd (float[N,13] patient, float[N,1] sound) => (float[N,1] probability)
        <int64[1] zero = {0}, int64[1] one = {1}, float hundred = {100.0}, float minus = {-1.0}>
        {
            years = Slice(patient, zero, one, one)
            above = Greater(years, hundred)
            nan = Sqrt(minus)
            probability = Where(above, nan, sound)
        }""")
    graph.node.extend(age.node)
    graph.initializer.extend(age.initializer)
    kept = [pair for pair in model.metadata_props if pair.key != "checks"]  # which would find it out
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    (tmp_path / NEWEST).mkdir()
    onnx.save(model, tmp_path / NEWEST / FILE)
    return tmp_path


def test_a_model_without_a_number_gives_an_error_and_never_a_wrong_answer(partial: Path, outcome: Outcome) -> None:
    """500 for that record alone, null with an `error` where bad rows are reported; everybody else is answered."""
    good, invalid_probabilities = EXAMPLE, EXAMPLE | {"age": 110}
    with serving("--models", str(partial)) as (port, _):
        expected = post(port, json.dumps(good).encode())
        assert expected[0] == 200
        status, answer = post(port, json.dumps(invalid_probabilities).encode())
        assert (status, json.loads(answer)["detail"][:30]) == (500, "The model has no probability f")
        status, answer = post(
            port, json.dumps([good, invalid_probabilities, good, invalid_probabilities]).encode(), "/predict/batch"
        )
        assert (status, [error["pointer"] for error in json.loads(answer)["errors"]]) == (500, ["/1", "/3"])
        lines = b"".join(json.dumps(record).encode() + b"\n" for record in (good, invalid_probabilities, good))
        status, answer = post(port, lines, "/predict/batch", "application/x-ndjson")
        rows = [json.loads(line) for line in answer.splitlines()]
        assert status == 200
        assert [row["probability"] for row in rows[:3]] == [
            json.loads(expected[1])["probability"],
            None,
            rows[0]["probability"],
        ]
        assert "no probability" in rows[1]["error"]
        assert rows[3]["summary"] | {"rows": 3, "scored": 2, "bad": 1} == rows[3]["summary"]
        table = pa.Table.from_pylist([good, invalid_probabilities, good])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        status, answer = post(
            port, sink.getvalue().to_pybytes(), "/predict/batch", "application/vnd.apache.arrow.stream"
        )
        assert (status, [error["pointer"] for error in json.loads(answer)["errors"]]) == (500, ["/1"])
        status, answer = post(
            port, b"[%s]" % json.dumps(invalid_probabilities).encode(), "/predict/batch?on_error=report"
        )
        assert (status, json.loads(answer)["predictions"][0]["probability"]) == (200, None)
        assert json.loads(get(port, "/health/ready"))["status"] == "ready"
        outcome("500 for the record that has no probability; its neighbours in the same run and table are answered")


def test_neighbours_in_a_run_do_not_share_the_fault(partial: Path) -> None:
    """Pipelined, so that they wait together: every second one fails, and no other."""
    with serving("--models", str(partial)) as (port, _):
        ages = [30, 110] * 20
        connections = []
        for _ in ages:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.connect()
            connections.append(connection)
        for connection, age in zip(connections, ages, strict=True):
            connection.sock.sendall(request("/predict", EXAMPLE | {"age": age}))
        statuses = []
        for connection in connections:
            response = http.client.HTTPResponse(connection.sock)
            response.begin()
            statuses.append(response.status)
            connection.close()
        assert statuses == [200, 500] * 20
