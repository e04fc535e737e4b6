"""A new model takes over while requests come: none fails, none mixes two, and the processes stay the same."""

import asyncio
import json
import os
import signal
import socket
import time
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path

import pytest

from patient.artefact import PIN
from patient.record import EXAMPLE
from tests.e2e.serving import Connection, get, serving
from tests.e2e.test_workers import metric, until_both_serve, workers
from tests.service.http.test_streams import chunk
from tests.versions import make, probability_of


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with versions 1 and 2."""
    for version in (1, 2):
        make(tmp_path, version)
    return tmp_path


def flags(models: Path, *more: str) -> list[str]:
    """For a service that looks at this folder at SIGHUP alone, unless told otherwise."""
    return ["--models", str(models), "--watch", "0", "--log-level", "warning", *more]


def pin(models: Path, version: int) -> None:
    """As people should: whole at once."""
    aside = models / ".serve"
    aside.write_text(str(version))
    aside.rename(models / PIN)


def resident(process: int) -> float:
    """MiB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def reloaded(port: int, count: int) -> None:
    """So many reloads, of all workers together, have happened."""
    for _ in range(4000):
        if await asyncio.to_thread(metric, port, 'heart_reloads_total{outcome="loaded"}') >= count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"no {count} reloads")


@pytest.mark.parametrize(("count", "reloads"), [(1, 40), (2, 6)], ids=["one process", "two workers"])
def test_no_request_fails_or_mixes_while_models_change(models: Path, count: int, reloads: int) -> None:
    """Each answer names the model that made it; the processes live on, and what they let go is given back."""
    with serving(*flags(models, "--workers", str(count))) as (port, server):
        if count == 2:
            until_both_serve(port)
        processes = workers(server) if count == 2 else [server]

        async def client(until: asyncio.Event) -> set[str]:
            connection = await Connection.to(port)
            versions = set()
            while not until.is_set():
                status, _, answer = await connection.post("/predict", EXAMPLE)
                assert (status, answer["probability"]) == (200, probability_of(answer["model_version"]))
                status, _, answer = await connection.post("/predict/batch", [EXAMPLE] * 1500)
                assert status == 200
                told = {prediction["probability"] for prediction in answer["predictions"]}
                assert told == {probability_of(answer["model_version"])}
                versions.add(answer["model_version"])
            connection.close()
            return versions

        async def work() -> None:
            until = asyncio.Event()
            clients = [asyncio.ensure_future(client(until)) for _ in range(4)]
            early = 0.0
            for done in range(reloads):
                pin(models, 1 + done % 2)
                os.kill(server, signal.SIGHUP)
                await reloaded(port, count * (done + 1))
                if done == 10:
                    early = resident(server)
            until.set()
            assert set().union(*await asyncio.gather(*clients)) == {"1", "2"}
            if count == 1:
                growth = resident(server) - early  # MiB; closed connections that are not yet collected are up to 5
                assert growth < 10  # 30 models that are not given back are 15

        asyncio.run(work())
        assert (workers(server) if count == 2 else [server]) == processes
        assert metric(port, 'heart_reloads_total{outcome="refused"}') == 0


def test_a_table_that_streams_keeps_its_model_to_the_end(models: Path) -> None:
    """However long it takes; its headers said which it is before the first row."""
    line = json.dumps(EXAMPLE).encode() + b"\n"
    pin(models, 1)
    with serving(*flags(models)) as (port, server), closing(socket.create_connection(("127.0.0.1", port))) as table:
        head = "POST /predict/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        table.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk(line))
        with closing(HTTPResponse(table, method="POST")) as answer:
            answer.begin()
            assert answer.headers["X-Model-Version"] == "1"
            rows = [json.loads(answer.readline())]
            pin(models, 2)
            os.kill(server, signal.SIGHUP)
            asyncio.run(reloaded(port, 1))
            assert json.loads(get(port, "/health/ready"))["model_version"] == "2"
            table.sendall(chunk(line * 5000) + chunk(b""))
            *more, last = map(json.loads, answer.read().splitlines())
        assert {row["probability"] for row in rows + more} == {probability_of(1)}
        assert (last["summary"]["rows"], last["summary"]["model_version"]) == (5001, "1")


def test_a_new_version_comes_by_itself_to_every_worker(models: Path) -> None:
    """Nobody tells them; a bad one that comes later changes nothing, not even for a worker that is replaced."""
    with serving(*flags(models, "--watch", "0.05", "--workers", "2")) as (port, server):
        until_both_serve(port)
        make(models, 3)
        asyncio.run(reloaded(port, 2))
        make(models, 4).write_bytes(b"garbage")
        for _ in range(1000):
            if metric(port, 'heart_reloads_total{outcome="refused"}') == 2:
                break
            time.sleep(0.05)
        before = workers(server)
        os.kill(before[0], signal.SIGKILL)
        for _ in range(1000):
            if len(now := workers(server)) == 2 and before[0] not in now:
                break
            time.sleep(0.05)
        until_both_serve(port)
        told = {json.loads(get(port, "/health/ready"))["model_version"] for _ in range(20)}
        assert told == {"3"}
