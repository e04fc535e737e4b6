"""Requests whose tables are valid in their syntax, and false in their lengths, counts, types and order."""

import gzip
import io
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from patient.record import EXAMPLE
from tests.fuzz import tables
from tests.fuzz.bodies import ACCEPTS, ARROW, CSV, EXTREMES, JSON, NDJSON, PARQUET, TYPES, Request

Kind = tuple[str, str]  # media type and file name
FILES = {ARROW: ".arrow", PARQUET: ".parquet", CSV: ".csv", NDJSON: ".ndjson", JSON: ".json"}
PATHS = ("/predict/batch",) * 30 + ("/predict", "/explain", "/v2/models/heart_disease/infer")
KEEPS = ("*", "*", "*", "note", "note,é", "", "a,b", "\0", "age", "*,note", "x" * 3000, "note," * 500)
ODD_LENGTHS = ("-1", "+5", "0x10", "5, 5", "5, 6", "1e3", "", " 7 ", "9" * 30, "18446744073709551616", "\u0662")
ODD_ENCODINGS = ("chunked, chunked", "gzip, chunked", "identity", "chunked;q=1", "xchunked", "Chunked", "")
ROW = ",".join(str(value) for value in EXAMPLE.values())


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
    if accept := rng.choice((*ACCEPTS, *TYPES)):
        headers.append(("Accept", accept))
    return frame(rng.choice(PATHS) + query(rng), headers, body, rng)


def query(rng: random.Random) -> str:
    """The options, mostly such as are allowed."""
    options = []
    if rng.random() < 0.8:
        options.append("keep=" + quote(rng.choice(KEEPS)))
    if rng.random() < 0.6:
        options.append("on_error=" + rng.choice(("report", "report", "refuse", "", "x")))
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


def number(old: int, width: int, rng: random.Random) -> bytes:
    """Another number of so many bytes: an extreme one, or one near the old."""
    near = (old + 1, old - 1, old * 2, old // 2, old + 8, -old, old ^ 1, old << 8)
    return (rng.choice((*EXTREMES, *near, *near)) % 2 ** (8 * width)).to_bytes(width, "little")


def overwrite(data: bytearray, place: int, width: int, rng: random.Random) -> None:
    """Replace the number at a place."""
    if 0 <= place <= len(data) - width:
        data[place : place + width] = number(int.from_bytes(data[place : place + width], "little"), width, rng)


# Arrow: a stream is a sequence of messages, each a FlatBuffer of numbers and the bytes of columns that they describe.


def arrow(rng: random.Random, mutated: bool) -> bytes:
    body = tables.written(tables.arrow, rng)
    if not mutated:
        return body
    if body.startswith(b"ARROW1") and rng.random() < 0.5:
        data = bytearray(body)
        footer = len(data) - 10 - int.from_bytes(data[-10:-6], "little")
        for _ in range(rng.choice((1, 1, 3))):
            overwrite(data, rng.choice((len(data) - 10, rng.randrange(footer, len(data) - 10) & ~3)), rng.choice((2, 4, 8)), rng)
        return bytes(data)
    start = 8 if body.startswith(b"ARROW1") else 0
    found = list(messages(body, start))
    rest = body[start + sum(len(head) + len(content) for head, content in found) :]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if found:
            _change_message(found, rng)
    return body[:start] + b"".join(head + content for head, content in found) + rest


def messages(body: bytes, place: int) -> Iterator[tuple[bytearray, bytearray]]:
    """Head and content of each message, up to the mark of the end."""
    while place < len(body):
        start = place + 4 if body[place : place + 4] == b"\xff" * 4 else place
        size = int.from_bytes(body[start : start + 4], "little")
        if not size:
            return
        end = start + 4 + size
        head = bytearray(body[place:end])
        length = next((value for _, value in _field_at(head, _root(head), 3)), 0)
        yield head, bytearray(body[end : end + length])
        place = end + length


def _root(head: bytearray) -> int:
    start = 8 if head[:4] == b"\xff" * 4 else 4
    return start + int.from_bytes(head[start : start + 4], "little")


def _field_at(head: bytearray, table: int, index: int) -> list[tuple[int, int]]:
    """Place and value, as eight bytes, of a field of a FlatBuffer's table; empty if it is absent."""
    sizes = table - int.from_bytes(head[table : table + 4], "little", signed=True)
    if 4 + 2 * index >= int.from_bytes(head[sizes : sizes + 2], "little"):
        return []
    distance = int.from_bytes(head[sizes + 4 + 2 * index : sizes + 6 + 2 * index], "little")
    place = table + distance
    return [(place, int.from_bytes(head[place : place + 8], "little"))] if distance else []


def numbers(head: bytearray) -> list[int]:
    """Places of the eight-byte numbers of a record batch: its rows, its nodes, its buffers, and the body's length."""
    root = _root(head)
    places = [place for place, _ in _field_at(head, root, 3)]
    for header, _ in _field_at(head, root, 2):
        batch = header + int.from_bytes(head[header : header + 4], "little")
        places += [place for place, _ in _field_at(head, batch, 0)]
        for vector, _ in (*_field_at(head, batch, 1), *_field_at(head, batch, 2)):
            start = vector + int.from_bytes(head[vector : vector + 4], "little")
            count = int.from_bytes(head[start : start + 4], "little")
            places += range(start + 4, min(start + 4 + 16 * count, len(head) - 7), 8)
    return places


def _change_message(found: list[tuple[bytearray, bytearray]], rng: random.Random) -> None:
    i = rng.randrange(len(found))
    head, content = found[i]
    kind = rng.randrange(8)
    if kind <= 2 and i and (places := numbers(head)):
        overwrite(head, rng.choice(places), 8, rng)
    elif kind == 3:
        overwrite(head, rng.randrange(len(head)) & ~3, rng.choice((1, 2, 4, 8)), rng)
    elif kind in (4, 5) and content:
        for _ in range(rng.choice((1, 1, 8))):
            width = rng.choice((1, 2, 4, 4, 4, 8))
            overwrite(content, rng.randrange(len(content)) // width * width, width, rng)
    elif kind == 6:
        found.insert(rng.randrange(len(found) + 1), (bytearray(head), bytearray(content)))
    else:
        j = rng.randrange(len(found))
        found[i], found[j] = found[j], found[i]
        if rng.random() < 0.3:
            del found[j]


# Parquet: Thrift's compact protocol in the footer and before each page, so a number's length is that of its digits.


def parquet(rng: random.Random, mutated: bool) -> bytes:
    body = tables.written(tables.parquet, rng)
    if not mutated:
        return body
    places = _pages(body)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        change = rng.choice((_change_footer, _change_footer, _change_page, _change_page, _change_content))
        body = change(body, places, rng) if places else _change_footer(body, places, rng)
    return body


def _change_footer(body: bytes, _: list[int], rng: random.Random) -> bytes:
    size = int.from_bytes(body[-8:-4], "little")
    footer = body[-8 - size : -8]
    footer = change_thrift(footer, rng)
    length = number(len(footer), 4, rng) if rng.random() < 0.05 else len(footer).to_bytes(4, "little")
    return body[: -8 - size] + footer + length + body[-4:]


def _pages(body: bytes) -> list[int]:
    """Places of the columns' first pages in a valid file: pyarrow aborts at some others."""
    try:
        found = pq.ParquetFile(io.BytesIO(body)).metadata
    except pa.ArrowException:  # at a field that claims to be of another type
        return []
    groups = [found.row_group(i) for i in range(found.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    return [place for column in columns for place in (column.dictionary_page_offset, column.data_page_offset) if place]


def _change_page(body: bytes, places: list[int], rng: random.Random) -> bytes:
    """Of the header of a page, in the same number of bytes, so that what follows stays where it was."""
    place = rng.choice(places)
    return body[:place] + change_thrift(body[place:], rng, is_length_kept=True)


def _change_content(body: bytes, places: list[int], rng: random.Random) -> bytes:
    """Of a page: levels, bit widths, compressed lengths."""
    data = bytearray(body)
    overwrite(data, rng.choice(places) + rng.randrange(15, 90), rng.choice((1, 2, 4)), rng)
    return bytes(data)


def change_thrift(data: bytes, rng: random.Random, is_length_kept: bool = False) -> bytes:
    """Replace a number or a length of the first structure in the data."""
    found = []
    try:
        _walk(data, 0, 12, found)
    except IndexError:
        pass
    if not found:
        return data
    start, end = rng.choice(found)
    old, _ = _varint(data, start)
    new = int.from_bytes(number(old, rng.choice((1, 4, 4, 8)), rng), "little")
    digits = bytearray()
    while new >= 0x80:
        digits.append(new & 0x7F | 0x80)
        new >>= 7
    digits.append(new)
    if is_length_kept:
        digits = digits[: end - start].ljust(end - start, b"\x80")
        digits[:-1] = bytes(digit | 0x80 for digit in digits[:-1])
        digits[-1] &= 0x7F
    return data[:start] + digits + data[end:]


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The number and the place behind it."""
    value = shift = 0
    while data[place] & 0x80:
        value |= (data[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | data[place] << shift, place + 1


def _walk(data: bytes, place: int, kind: int, found: list[tuple[int, int]]) -> int:
    """Append the places of all numbers and lengths of a value; return the place behind it. kind: Thrift's number"""
    if kind in (1, 2):  # a boolean, which is in its field's head
        return place
    if kind == 3:
        return place + 1
    if kind == 7:
        return place + 8
    if kind in (4, 5, 6, 8):
        value, end = _varint(data, place)
        found.append((place, end))
        return end + value * (kind == 8)
    if kind in (9, 10):
        head, place = data[place], place + 1
        count = head >> 4
        if count == 15:
            found.append((place, _varint(data, place)[1]))
            count, place = _varint(data, place)
        for _ in range(count):
            place = _walk(data, place, head & 15, found)
        return place
    while head := data[place]:
        place = place + 1 if head >> 4 else _varint(data, place + 1)[1]
        place = _walk(data, place, head & 15, found)
    return place + 1


# Text


def csv(rng: random.Random, mutated: bool) -> bytes:
    names, rows = list(EXAMPLE), [ROW] * rng.choice(tables.SIZES)
    more = rng.sample(("note", "é", "", '"a\nb"'), rng.choice((0, 0, 1, 2)))
    lines = [",".join([*names, *more]), *(",".join([row, *(rng.choice(('"a\n"', "x", "", '""')) for _ in more)]) for row in rows)]
    end = rng.choice(("\n", "\r\n", "\n", "\r"))
    if not mutated:
        return end.join(lines).encode()
    for _ in range(rng.choice((1, 1, 3))):
        i = rng.randrange(len(lines))
        cells = lines[i].split(",")
        j = rng.randrange(len(cells))
        cells[j] = rng.choice((
            *('"', '""', '"\n', "1" * rng.choice((400, 2**20)), "1e999999", "\0", "\ufeff63", "0x3f", "1_000", "١", '"6"3'),
            *("," * rng.choice((1, 1000)), "\r", '"' * 9999, "-0", "NaN", "inf", "1e-400", "=1", "\u2028", " 63 "),
        ))  # fmt: skip
        lines[i] = rng.choice((",", ",", ",", ",", ";", "\t")).join(cells * rng.choice((1, 1, 1, 2, 500)))
    return end.join(lines).encode() + rng.choice((b"", b"\n" * 5000, b"\xff\xfe", b'"'))


VALUES: tuple[Callable[[], str], ...] = (
    *(lambda: "[" * 100_000, lambda: '{"a":' * 100_000, lambda: "[" * 500 + "]" * 500, lambda: "1" * 5000),
    *(lambda: "1e999", lambda: "-0", lambda: "1e-999", lambda: "NaN", lambda: '"\\ud800"', lambda: '"\\u0000"', lambda: "01"),
    *(lambda: '"' + "x" * 2**20 + '"', lambda: "null", lambda: "true", lambda: "{}", lambda: "[]", lambda: "9" * 400 + ".5"),
    *(lambda: "[" + "1," * 10_000 + "1]", lambda: json.dumps({str(i): i for i in range(2000)}), lambda: "", lambda: "1."),
)


def record(rng: random.Random, mutated: bool) -> str:
    """A JSON object, with doubled keys, other values, more or fewer keys."""
    pairs = [(name, json.dumps(value)) for name, value in EXAMPLE.items()]
    pairs += [(name, '"a"') for name in ("note", "é") if rng.random() < 0.1]
    if mutated:
        i = rng.randrange(len(pairs))
        action = rng.randrange(5)
        if action == 0:
            pairs[i] = (pairs[i][0], rng.choice(VALUES)())
        elif action == 1:
            pairs += [pairs[i]] * rng.choice((1, 5000))
        elif action == 2:
            pairs.append((rng.choice((*tables.NAMES, "\\u0061ge", "__proto__")), rng.choice(VALUES)()))
        elif action == 3:
            del pairs[i:]
        else:
            pairs += [(f"k{n}", "1") for n in range(rng.choice((10, 1001, 20_000)))]
    names = (name if "\\u" in name else json.dumps(name, ensure_ascii=rng.random() < 0.5)[1:-1] for name, _ in pairs)
    return "{" + ",".join(f'"{name}":{value}' for name, (_, value) in zip(names, pairs, strict=True)) + "}"


def _records(rng: random.Random, mutated: bool) -> list[str]:
    count = rng.choice(tables.SIZES)
    changed = set(rng.sample(range(count), min(count, rng.choice((1, 2, 5))))) if mutated else set()
    return [record(rng, i in changed) for i in range(count)]


def ndjson(rng: random.Random, mutated: bool) -> bytes:
    text = rng.choice(("\n", "\n", "\r\n", "\n\n\n", "\n \t\n")).join(_records(rng, mutated))
    return encoded(text, rng, mutated) + rng.choice((b"", b"\n", b"\n" * 9999 if mutated else b""))


def json_array(rng: random.Random, mutated: bool) -> bytes:
    text = "[" + ",".join(_records(rng, mutated)) + "]"
    if mutated and rng.random() < 0.3:
        text = rng.choice((
            lambda: text[:-1], lambda: text + text, lambda: text[1:-1], lambda: f'{{"records":{text}}}',
            lambda: text.replace("},{", "},,{", 1), lambda: f"[{text}]", lambda: text + " " * 100_000 + "x",
            lambda: json.dumps({name: [value] for name, value in EXAMPLE.items()}), lambda: rng.choice(VALUES)(),
            lambda: json.dumps({"columns": list(EXAMPLE), "data": [list(EXAMPLE.values())]}),
            lambda: "[" + "{}," * 20_000 + "{}]", lambda: json.dumps([list(EXAMPLE.values())]),
        ))()  # fmt: skip
    return encoded(text, rng, mutated)


def encoded(text: str, rng: random.Random, mutated: bool) -> bytes:
    return text.encode(rng.choice(("utf-16", "utf-32-le", "utf-8-sig", "latin-1")) if mutated and rng.random() < 0.1 else "utf-8", "replace")


MAKERS = {ARROW: arrow, PARQUET: parquet, CSV: csv, NDJSON: ndjson, JSON: json_array}


# Compression


def pack(body: bytes, encoding: str, rng: random.Random, mutated: bool) -> bytes:
    """The body compressed, in one piece or several, with what the container allows, and sometimes with what it does not."""
    cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.choice((0, 0, 1, 3))))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    if encoding == "deflate":
        bits = rng.choice((15, 15, 9, -15)) if mutated else 15
        packer = zlib.compressobj(1, wbits=bits)
        flush = rng.choice((zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH))
        return b"".join(packer.compress(piece) + packer.flush(flush) for piece in pieces) + packer.flush()
    found = [(gzip_member if encoding == "gzip" else zstd_frame)(piece, rng, mutated) for piece in pieces]
    if mutated and rng.random() < 0.3:
        found.insert(rng.randrange(len(found) + 1), rng.choice(found))
    junk = (b"\0" * 512, b"x", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08\x04\0\0\0\0\0\0\xff\xff")
    return b"".join(found) + (rng.choice(junk) if mutated and rng.random() < 0.1 else b"")


def gzip_member(data: bytes, rng: random.Random, mutated: bool) -> bytes:
    packer = zlib.compressobj(rng.choice((0, 1, 9)), wbits=-rng.choice((9, 12, 15)), strategy=rng.choice((0, 2, 3, 4)))
    content = packer.compress(data) + packer.flush()
    flags = rng.choice((0, 0, 1, 2, 4, 8, 16, 30, 0xE0 if mutated else 0))
    head = b"\x1f\x8b\x08" + bytes([flags]) + b"\xff" * 4 + b"\0\xff"
    if flags & 4:
        size = rng.choice((0, 5, 65_535))
        head += struct.pack("<H", size) + bytes(size if not mutated or rng.random() < 0.7 else size // 2)
    head += (b"name\0" if rng.random() < 0.9 else b"n" * 70_000 + b"\0") if flags & 8 else b""
    head += b"comment\0" if flags & 16 else b""
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF) if flags & 2 else b""
    trailer = bytearray(struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF))
    if mutated and rng.random() < 0.2:
        overwrite(trailer, rng.choice((0, 4)), 4, rng)
    return head + content + trailer


def zstd_frame(data: bytes, rng: random.Random, mutated: bool) -> bytes:
    """A frame by pyarrow, or one of stored and repeated blocks behind a window of any size; skippable ones before it."""
    size = rng.choice((0, 7, 100_000))
    skipped = struct.pack("<II", 0x184D2A50 + rng.randrange(16), size) + bytes(size) if rng.random() < 0.2 else b""
    if mutated and rng.random() < 0.1:
        skipped = struct.pack("<II", 0x184D2A50, rng.choice((2**32 - 1, size + 1)))
    if rng.random() < 0.4:
        frame = bytearray(pa.compress(data, "zstd", asbytes=True))
        if mutated and rng.random() < 0.5:
            overwrite(frame, rng.randrange(4, 14), rng.choice((1, 2, 4)), rng)
        return skipped + bytes(frame)
    # Window of 2 ** (10 + exponent) bytes; some readers take up to 2 ** 27, others any.
    exponent = rng.choice((10, 13, 17, 18, 21, 31)) if mutated else rng.choice((10, 13, 16))
    blocks = [(0, data[start : start + 2**17], None) for start in range(0, len(data), 2**17)]
    if mutated and rng.random() < 0.3:
        blocks += [(1, b"\n", 2**17)] * rng.choice((1, 3, 500))
    if mutated and rng.random() < 0.2:
        blocks.append((rng.choice((2, 3)), b"\xff" * 9, rng.choice((9, 0, 2**21 - 1))))
    blocks.append((0, b"", None))
    made = b"".join(
        ((length if length is not None else len(content)) << 3 | kind << 1 | (i == len(blocks) - 1)).to_bytes(3, "little")
        + content
        for i, (kind, content, length) in enumerate(blocks)
    )
    return skipped + b"\x28\xb5\x2f\xfd\0" + bytes([exponent << 3 | rng.randrange(8) * mutated]) + made


# Forms


def form(body: bytes, name: str, rng: random.Random, mutated: bool) -> tuple[str, bytes]:
    """Content type and body of a form with this file; mutated: other parts, headers, boundaries, forms within."""
    boundary = rng.choice(("part", "x" * 70, "----WebKitFormBoundary7MA4YWxkTrZu0gW", "a'()+_,-./:=? b", "-"))
    head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n'
    end, count = f"\r\n--{boundary}--\r\n", 1
    content_type = f'multipart/form-data; boundary="{boundary}"'
    if mutated:
        head += rng.choice((
            *("", "", "", "X: " + "y" * 100_000 + "\r\n", "X: y\r\n" * 5000, "Content-Type: text/csv; charset=utf-16\r\n"),
            *("Content-Transfer-Encoding: base64\r\n", "Content-Length: 3\r\n", "\0: \0\r\n", ": \r\n", " folded\r\n", "X\r\n"),
            *('Content-Disposition: form-data; filename="b.json"\r\n', "Content-Type: multipart/mixed; boundary=z\r\n"),
        ))  # fmt: skip
        name_options = ("filename*=UTF-8''a.csv", 'filename="', "filename=", 'filename="' + "a" * 99_999 + '.csv"', "x")
        if rng.random() < 0.1:
            head = f"Content-Disposition: form-data; {rng.choice(name_options)}\r\n"
        end = rng.choice((end, end, end, "", f"\r\n--{boundary}", f"\n--{boundary}--", f"\r\n--{boundary}--x\r\n" + "z" * 9999))
        count = rng.choice((1, 1, 1, 2, 300))
        content_type = rng.choice((content_type,) * 9 + ("multipart/form-data; boundary=other", "multipart/form-data; boundary*=x''%ff"))
    preamble = rng.choice(("", "", "", "\r\n", "preamble\r\n" if mutated else ""))
    part = f"--{boundary}\r\n{head}\r\n".encode()
    if mutated and rng.random() < 0.1:
        _, body = form(body, name, rng, False)
    return content_type, preamble.encode() + b"\r\n".join([part + body] * count) + end.encode()
