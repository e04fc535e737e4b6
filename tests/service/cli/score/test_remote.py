"""`score --url`: the same files, messages and statuses as without a service, and clear errors where it fails."""

import http.server
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cli.score import remote_engine as remote
from service.records.errors import RowFault, Tally
from tests.e2e.serving import answering, serving
from tests.service.cli.score.conftest import KINDS, Command, patients, run, spoiled, write

KEEP = ("--keep", "*")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A service, as `python -m service` starts one."""
    with serving("--log-level", "error") as (port, _):
        yield f"http://127.0.0.1:{port}"


def test_what_is_left_out_is_noted_on_stderr(tmp_path: Path, score: Command, url: str) -> None:
    """By a model in this process and by a service; --quiet is silent."""
    table = tmp_path / "in.csv"
    source = patients(3).drop_columns(["ward"]).rename_columns({"mrn": ""})
    pa.csv.write_csv(source, table)
    table.write_text("".join(line + ",\n" for line in table.read_text().splitlines()))
    for asked in ([], ["--url", url]):
        assert score(table, tmp_path / "out.csv", *asked) == 0
        assert score.said == "score: in.csv: Columns 1, 15 without a name: left out\nscore: 3 rows, 0 bad\n"
        assert score(table, tmp_path / "out.csv", "--quiet", *asked) == 0
        assert score.said == ""


def ok(url: str) -> bytes:
    """What the service says of its model, as a raw answer."""
    with urllib.request.urlopen(f"{url}/model") as response:
        body: bytes = response.read()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize(
    ("came", "to"),
    [(kind, "parquet") for kind in KINDS]
    + [("parquet", kind) for kind in KINDS]
    + [("ndjson", "ndjson"), ("ndjson", "json"), ("json", "ndjson"), ("json", "json"), ("csv", "csv")],
)
@pytest.mark.parametrize("report", ["report", "refuse"])
def test_it_writes_the_same_bytes(came: str, to: str, report: str, tmp_path: Path, score: Command, url: str) -> None:
    """As the model in this process: kept columns, missing ones, bad rows and all."""
    table = patients(2500)
    if report == "report":
        table = spoiled(table, age={0: 7, 2400: None}, ca={9: 1.5, 2499: 9})
    source = write(tmp_path / f"in.{came}", table)
    asked: list[str | Path] = [*KEEP, "--on-error", report]
    status = score(source, tmp_path / f"here.{to}", *asked)
    said = score.said
    assert status == (3 if report == "report" else 0)
    assert score(source, tmp_path / f"there.{to}", *asked, "--url", url) == status
    assert score.said == said
    assert (tmp_path / f"there.{to}").read_bytes() == (tmp_path / f"here.{to}").read_bytes()


@pytest.mark.parametrize("kind", ["csv", "ndjson", "parquet"])
def test_refusals_are_the_same(kind: str, tmp_path: Path, score: Command, url: str) -> None:
    """Bad rows, wrong columns and damaged files, in the same words."""
    bad = write(tmp_path / f"bad.{kind}", spoiled(patients(2500), chol={7: 9999.5}, age={2000: 17}))
    columns = write(tmp_path / f"columns.{kind}", patients(20).drop(["chol"]))
    cut = write(tmp_path / f"cut.{kind}", patients(2500))
    with cut.open("r+b") as file:
        file.truncate(cut.stat().st_size // 2)
    for source in (bad, columns, cut):
        said = []
        for flags in ([], ["--url", url]):
            assert score(source, tmp_path / "out.csv", *KEEP, *flags) == 1
            said.append(score.said)
        assert said[1] == said[0]
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "ndjson", "json", "arrow", "parquet"])
def test_no_rows_give_no_rows_there_too(kind: str, tmp_path: Path, score: Command, url: str) -> None:
    """The same bytes as here."""
    source = write(tmp_path / f"in.{kind}", patients(0))
    assert score(source, tmp_path / f"here.{kind}", *KEEP) == 0
    assert score(source, tmp_path / f"there.{kind}", *KEEP, "--url", url) == 0
    assert (tmp_path / f"there.{kind}").read_bytes() == (tmp_path / f"here.{kind}").read_bytes()


def test_folders_and_pipes_go_through_a_service_too(tmp_path: Path, score: Command, url: str) -> None:
    """And what is finished is not sent again."""
    for name in ("a.csv", "b.ndjson"):
        write(tmp_path / "in" / name, patients(1000))
    asked: list[str | Path] = [tmp_path / "in", tmp_path / "out.parquet", *KEEP, "--url", url]
    assert score(*asked) == 0
    assert score(*asked) == 0
    assert "2,000 rows in 2 of 2 parts, 2 of them finished before" in score.said
    with (tmp_path / "in/a.csv").open("rb") as source:
        status, out, said = run("-", "-", "--format", "csv", "--to", "ndjson", *KEEP, "--url", url, stdin=source)
    assert (status, said) == (0, "score: 1,000 rows, 0 bad\n")
    assert len(out.splitlines()) == 1000


def test_more_than_any_buffer_holds_goes_both_ways(tmp_path: Path, score: Command, url: str) -> None:
    """The response begins before the request ends: a client that does not read while it sends would wait forever."""
    source = write(tmp_path / "in.csv", patients(400_000))
    assert source.stat().st_size > 2**24
    asked: list[str | Path] = [*KEEP, "--on-error", "report"]
    assert score(source, tmp_path / "here.parquet", *asked) == 0
    assert score(source, tmp_path / "there.parquet", *asked, "--url", url) == 0
    here, there = (pa.parquet.read_table(tmp_path / f"{name}.parquet") for name in ("here", "there"))
    assert there.equals(here, check_metadata=True)
    assert len(there) == 400_000


def test_a_refusal_is_read_while_the_table_is_still_sent(tmp_path: Path, score: Command, url: str) -> None:
    """A wrong column is known from the first line."""
    source = write(tmp_path / "in.csv", patients(400_000))
    assert score(source, tmp_path / "out.parquet", "--url", url) == 1
    assert "not in a patient record; name in `keep`" in score.said


def test_limits_of_the_service_are_reported(tmp_path: Path, score: Command, url: str) -> None:
    """Without a service, files have no limits."""
    source = write(tmp_path / "in.json", patients(30_000))
    assert score(source, tmp_path / "out.csv", *KEEP) == 0
    assert score(source, tmp_path / "out.csv", *KEEP, "--url", url) == 1
    assert "The service responds with 413: " in score.said


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
)
def test_a_server_that_is_not_this_service_is_refused(answer: bytes, tmp_path: Path, score: Command) -> None:
    """The error is one line with the address; no table is sent."""
    source = write(tmp_path / "in.csv", patients(3))
    with answering(answer) as url:
        assert score(source, tmp_path / "out.csv", *KEEP, "--url", url) == 1
    assert "127.0.0.1:" in score.said
    assert score.said.count("\n") == 1


def test_a_service_that_does_not_run_fails_after_one_attempt(tmp_path: Path, score: Command) -> None:
    """The error is one line, at once: the client does not retry until its deadline."""
    source = write(tmp_path / "in.csv", patients(3))
    started = time.monotonic()
    assert score(source, tmp_path / "out.csv", *KEEP, "--url", "http://127.0.0.1:1") == 1
    assert time.monotonic() - started < 5
    assert "127.0.0.1:1: Connection refused" in score.said
    assert score.said.count("\n") == 1


@pytest.mark.parametrize("to", ["csv", "ndjson"])
def test_an_answer_that_breaks_off_is_no_answer(to: str, tmp_path: Path, score: Command, url: str) -> None:
    """A killed service, a proxy that gives up: nothing is written."""
    source = write(tmp_path / "in.ndjson", patients(3))
    version = json.loads(ok(url).partition(b"\r\n\r\n")[2])["version"].encode()
    begun = b'HTTP/1.1 200 OK\r\nX-Model-Version: %b\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{"a":1\r\n' % version
    with answering(ok(url), begun) as broken:
        assert score(source, tmp_path / f"out.{to}", *KEEP, "--url", broken) == 1
    assert "score: in.ndjson: " in score.said
    assert [file.name for file in tmp_path.iterdir()] == ["in.ndjson"]


def test_a_changed_model_is_an_error(tmp_path: Path, score: Command, url: str) -> None:
    """A folder never holds parts of two models."""
    write(tmp_path / "in/a.csv", patients(3))
    begun = b"HTTP/1.1 200 OK\r\nX-Model-Version: other\r\nContent-Length: 0\r\n\r\n"
    with answering(ok(url), begun) as changed:
        assert score(tmp_path / "in", tmp_path / "out", *KEEP, "--url", changed) == 1
    assert "a.csv: The service's model has changed since this run began" in score.said


class Pieces:
    """An answer that comes in these pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def read(self, _size: int) -> bytes:
        """The next one."""
        return self.pieces.pop(0) if self.pieces else b""


@given(st.lists(st.sampled_from([None, "age: bad", "age: bad | ca: bad", "Not JSON"]), min_size=1), st.data())
def test_ndjson_is_counted_wherever_it_is_cut(errors: list[str | None], data: st.DataObject) -> None:
    """Bad rows keep their numbers, the summary is no row, and not a byte changes."""
    rows = [b'{"error":%b}\n' % json.dumps(error).encode() for error in errors]
    text = b"".join(rows)
    whole = text + b'{"summary": {"rows": 1}}\n'
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1))))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    tally = Tally()
    assert b"".join(remote._read_lines(Pieces(pieces), tally)) == text  # type: ignore[arg-type]  # all of an answer that it uses
    assert (tally.rows, tally.bad) == (len(errors), sum(error is not None for error in errors))
    parts = [(row, part.rpartition(": ")) for row, error in enumerate(errors) if error for part in error.split(" | ")]
    assert tally.total == len(parts)
    assert tally.faults == [RowFault(row, column, reason) for row, (column, _, reason) in parts][:100]


def test_the_address_of_a_service_behind_a_path_is_kept(tmp_path: Path, score: Command) -> None:
    """As behind a proxy."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        where = f"http://127.0.0.1:{server.server_port}/heart/"
        assert score(write(tmp_path / "in.csv", patients(3)), tmp_path / "out.csv", *KEEP, "--url", where) == 1
        thread.join()
    assert asked == ["/heart/model"]
