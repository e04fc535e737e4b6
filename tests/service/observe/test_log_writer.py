"""Log lines are written soon and in order by a thread, and no caller ever waits for the reader."""

import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from threading import Barrier, Thread

import pytest

from service.observe import log_writer
from service.observe.log_writer import MAX_ENTRIES, MAX_WRITE_BYTES, LogWriter


class Pipe:
    """A pipe and the writer in front of it."""

    def __init__(self) -> None:
        self.reader, self.end = os.pipe()
        self.writer: LogWriter = LogWriter(self.end, lambda number: b"dropped %d\n" % number)

    def read(self, seconds: float = 30) -> list[bytes]:
        """Lines that can be read now, or within so many seconds."""
        if not select.select([self.reader], [], [], seconds)[0]:
            return []
        return os.read(self.reader, 2**20).splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Both ends stay open until the test ends: the thread may still write."""
    opened = Pipe()
    yield opened
    os.close(opened.reader)
    opened.writer.flush(5)
    os.close(opened.end)


def test_entries_that_threads_put_at_once_are_written_without_a_flush(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No wake-up is lost when two threads put into an empty queue together."""
    monkeypatch.setattr(log_writer, "GATHER_SECONDS", 0.001)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads, rounds = 8, 100
    together = Barrier(threads + 1)

    def put(number: int) -> None:
        for round_ in range(rounds):
            together.wait()
            pipe.writer.put(b"%d.%d\n" % (round_, number))

    workers = [Thread(target=put, args=(number,), daemon=True) for number in range(threads)]
    try:
        for worker in workers:
            worker.start()
        for round_ in range(rounds):
            together.wait()
            lines: list[bytes] = []
            while len(lines) < threads and (more := pipe.read(10)):
                lines += more
            assert sorted(lines) == [b"%d.%d" % (round_, number) for number in range(threads)]
    finally:
        sys.setswitchinterval(interval)


def test_an_urgent_entry_does_not_wait_for_others_to_gather(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error is written at once, with what was put before it."""
    monkeypatch.setattr(log_writer, "GATHER_SECONDS", 60)
    pipe.writer.put(b"a\n")
    pipe.writer.put(b"b\n", is_urgent=True)
    assert pipe.read() + pipe.read(0.2) == [b"a", b"b"]


def test_no_write_is_larger_than_a_pipe_takes_at_once() -> None:
    """Lines of several workers never interleave."""
    receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # which keeps writes apart
    with receiver, sender:
        writer: LogWriter = LogWriter(sender.fileno(), lambda _number: b"")
        sent = b"".join(b"%0*d\n" % (size, size) for size in range(1, 300))
        for line in sent.splitlines(keepends=True):
            writer.put(line)
        writer.flush(5)
        received: list[bytes] = []
        while sum(map(len, received)) < len(sent):
            received.append(receiver.recv(2**20))
    assert b"".join(received) == sent
    assert all(piece.endswith(b"\n") for piece in received)
    assert max(map(len, received)) <= MAX_WRITE_BYTES
    assert len(received) < 20  # and they are not written one by one


def test_beyond_the_bound_entries_are_dropped_counted_and_reported(pipe: Pipe) -> None:
    """Nobody reads at first: callers do not wait, and a flush ends in time. Drops before the callback count too."""
    sent, counts, started = 2 * MAX_ENTRIES, list[int](), time.monotonic()
    for number in range(sent):
        pipe.writer.put(b"%99d\n" % number)
        if number == sent - 100:
            assert not counts
            pipe.writer.count_drops(counts.append)
    pipe.writer.flush(0.1)
    assert time.monotonic() - started < 5
    assert len(counts) > 1
    lines: list[bytes] = []
    while more := pipe.read(0.5):
        lines += more
    kept = [int(line) for line in lines if not line.startswith(b"dropped")]
    reported = sum(int(line.split()[1]) for line in lines if line.startswith(b"dropped"))
    assert reported == sum(counts) == sent - len(kept)
    assert MAX_ENTRIES <= len(kept) < sent - 1000  # those in the pipe come on top
    assert kept == sorted(kept)


def test_lines_that_cannot_be_written_are_counted() -> None:
    """The reader has gone, and the writer goes on."""
    reader, end = os.pipe()
    os.close(reader)
    counts: list[int] = []
    writer: LogWriter = LogWriter(end, lambda _number: b"report\n")
    writer.count_drops(counts.append)
    for expected in (3, 7):  # the second time with the report of the first
        for _ in range(3):
            writer.put(b"x\n")
        writer.flush(5)
        assert sum(counts) == expected
    os.close(end)
