"""Arrow and Parquet whose lengths, offsets, counts and order are false."""

import contextlib
import io
import random
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz import tables
from tests.fuzz.bodies import number, overwrite

# Arrow: a stream is a sequence of messages, each a FlatBuffer of numbers and the bytes of columns that they describe.


def arrow(rng: random.Random, mutated: bool) -> bytes:
    body = tables.written(tables.arrow, rng)
    if not mutated:
        return body
    if body.startswith(b"ARROW1") and rng.random() < 0.5:
        data = bytearray(body)
        footer = len(data) - 10 - int.from_bytes(data[-10:-6], "little")
        for _ in range(rng.choice((1, 1, 3))):
            overwrite(
                data,
                rng.choice((len(data) - 10, rng.randrange(footer, len(data) - 10) & ~3)),
                rng.choice((2, 4, 8)),
                rng,
            )
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
    found: list[tuple[int, int]] = []
    with contextlib.suppress(IndexError):
        _walk(data, 0, 12, found)
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
