"""Wall clock jumps: timeouts and waits use the monotonic clock."""

import http.client
import json
import time
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

import pytest

from patient.record import EXAMPLE
from tests.conftest import Outcome
from tests.e2e.serving import COMMAND, serving
from tests.faults.machine import until
from tests.faults.test_processes import more, table

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
YEARS = 3650 * 86400  # seconds


def seconds_off(connection: http.client.HTTPConnection) -> float:
    """How far the service's clock is from ours; also asks for a patient."""
    connection.request("POST", "/predict", json.dumps(EXAMPLE), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert json.loads(response.read())["probability"]
    assert response.status == 200
    return parsedate_to_datetime(response.headers["date"]).timestamp() - time.time()


def off_by(connection: http.client.HTTPConnection, jump: float) -> bool:
    """Whether the service's clock has made this jump, of many days."""
    return abs(seconds_off(connection) - jump) < 60


@pytest.mark.skipif(not LIBRARY, reason="needs libfaketime (Debian: apt-get install faketime)")
def test_a_clock_that_jumps_by_years_is_not_noticed(tmp_path: Path, outcome: Outcome) -> None:
    """Forwards and back: a connection stays, a table that is under way goes on, and nothing runs into a time limit."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    fake = {"LD_PRELOAD": LIBRARY, "FAKETIME_TIMESTAMP_FILE": clock, "FAKETIME_NO_CACHE": 1}
    variables = [f"{name}={value}" for name, value in (fake | {"FAKETIME_DONT_FAKE_MONOTONIC": 1}).items()]
    with serving("--max-stall", "60", "--max-seconds", "60", command=("env", *variables, *COMMAND)) as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.connect()
        mine = connection.sock
        busy = table(port, 100)
        for jump in (YEARS, -YEARS):
            hidden = clock.with_suffix(".new")
            hidden.write_text(f"{jump:+d}")
            hidden.replace(clock)
            until(partial(off_by, connection, jump))
            assert connection.sock is mine
            more(busy, 100)
        more(busy, 0)
        response = http.client.HTTPResponse(busy)
        response.begin()
        assert json.loads(response.read().splitlines()[-1])["summary"]["scored"] == 300
        connection.close()
        busy.close()
        outcome("ten years forwards, twenty back: no connection, table or answer lost")
