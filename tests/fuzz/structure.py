"""Requests whose tables are valid in their syntax, and false in their lengths, counts, types and order."""

import random
from urllib.parse import quote

from tests.fuzz.binary import arrow, parquet
from tests.fuzz.bodies import ACCEPTS, ARROW, CSV, JSON, NDJSON, PARQUET, TYPES, Request
from tests.fuzz.containers import form, pack
from tests.fuzz.text import csv, json_array, ndjson

FILES = {ARROW: ".arrow", PARQUET: ".parquet", CSV: ".csv", NDJSON: ".ndjson", JSON: ".json"}
PATHS = ("/predict/batch",) * 60 + ("/predict", "/explain", "/v2/models/heart_disease/infer")
ODD_KEEPS = ("note", "note,é", "", "a,b", "\0", "age", "*,note", "x" * 3000, "note," * 500)
ODD_LENGTHS = ("-1", "+5", "0x10", "5, 5", "5, 6", "1e3", "", " 7 ", "9" * 30, "18446744073709551616", "\u0662")
ODD_ENCODINGS = ("chunked, chunked", "gzip, chunked", "identity", "chunked;q=1", "xchunked", "Chunked", "")
MAKERS = {ARROW: arrow, PARQUET: parquet, CSV: csv, NDJSON: ndjson, JSON: json_array}


def request(rng: random.Random) -> Request:
    """Make a random request; about one in six is valid."""
    kind = rng.choice((ARROW, ARROW, ARROW, PARQUET, PARQUET, PARQUET, CSV, NDJSON, JSON))
    mutated = rng.random() < 0.8
    body = MAKERS[kind](rng, mutated and rng.random() < 0.8)
    encoding = rng.choice(("", "", "", "gzip", "zstd", "deflate"))
    suffix = ""
    headers = [("Content-Type", kind)]
    if rng.random() < 0.15:
        if encoding in ("gzip", "zstd") and rng.random() < 0.4:
            suffix, body = {"gzip": ".gz", "zstd": ".zst"}[encoding], pack(body, encoding, rng, mutated)
            encoding = ""
        content_type, body = form(body, "a" + FILES[kind] + suffix, rng, mutated)
        headers = [("Content-Type", content_type)]
    if encoding:
        body = pack(body, encoding, rng, mutated)
        headers.append(("Content-Encoding", encoding))
    if accept := rng.choice((*ACCEPTS, *TYPES, *TYPES, *TYPES)):
        headers.append(("Accept", accept))
    return frame(rng.choice(PATHS) + query(rng), headers, body, rng)


def query(rng: random.Random) -> str:
    """The options, mostly such as are allowed."""
    options = []
    if rng.random() < 0.9:
        options.append("keep=" + ("*" if rng.random() < 0.9 else quote(rng.choice(ODD_KEEPS))))
    if rng.random() < 0.7:
        options.append("on_error=" + (rng.choice(("report", "report", "refuse")) if rng.random() < 0.98 else "x"))
    if rng.random() < 0.02:
        options.append(rng.choice(("cp=0", "format=csv", "keep=%ff", "%00=1", "keep", "&&&", "on_error=report")))
    return "?" + "&".join(options) if options else ""


def frame(path: str, headers: list[tuple[str, str]], body: bytes, rng: random.Random) -> Request:
    """The request with Content-Length or in chunks, as it is or not."""
    is_honest = rng.random() < 0.93
    if rng.random() < 0.7:
        length = str(len(body))
        if not is_honest:
            wrong = (len(body) + 1, max(0, len(body) - 1), 0, 10**9, 2**31, 2**63)
            length = str(rng.choice(wrong)) if rng.random() < 0.6 else rng.choice(ODD_LENGTHS)
        headers = [*headers, ("Content-Length", length)]
        if not is_honest and rng.random() < 0.2:
            headers.append(rng.choice((("Content-Length", "3"), ("Transfer-Encoding", "chunked"))))
        return Request(path, body, headers, is_honest)
    pieces, start = [], 0
    while start < len(body):
        size = rng.choice((1, 10, 1000, 70_000, len(body)))
        pieces.append(body[start : start + size])
        start += size
    sent = [b"%x%b\r\n%b\r\n" % (len(piece), rng.choice((b"", b"", b";a=b")), piece) for piece in pieces[:500]]
    sent += [b"%x\r\n%b\r\n" % (len(rest), rest)] if (rest := b"".join(pieces[500:])) else []
    sent.append(rng.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"000\r\nX-Trailer: 1\r\n\r\n")))
    coding = "chunked"
    if not is_honest:
        where = rng.randrange(len(sent))
        odd = (b"", b"-1\r\n", b"ffffffffffffffff\r\n", b"7fffffff\r\n", b"zz\r\n", b"5\n12345\n", b"0\r\n\r\n", b"\0")
        sent[where] = rng.choice(odd)
        coding = rng.choice(("chunked", *ODD_ENCODINGS))
    return Request(path, b"".join(sent), [*headers, ("Transfer-Encoding", coding)], is_honest)
