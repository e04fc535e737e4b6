"""What tables come in: gzip, deflate and zstd of several pieces, and forms; valid, and with false lengths or parts."""

import random
import struct
import zlib

import pyarrow as pa

from tests.fuzz.bodies import overwrite


def pack(body: bytes, encoding: str, rng: random.Random, mutated: bool) -> bytes:
    """The body compressed, in one piece or several, with rare features of the container; mutated: and false ones."""
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
    """A frame by pyarrow, or one of stored and repeated blocks with a window of any size; also skippable frames."""
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
    parts = [data[start : start + 2**17] for start in range(0, len(data), 2**17)]
    blocks = [(0, part, len(part)) for part in parts]  # kind, content, announced length
    if mutated and rng.random() < 0.3:
        blocks += [(1, b"\n", 2**17)] * rng.choice((1, 3, 500))
    if mutated and rng.random() < 0.2:
        blocks.append((rng.choice((2, 3)), b"\xff" * 9, rng.choice((9, 0, 2**21 - 1))))
    made = b"".join((length << 3 | kind << 1).to_bytes(3, "little") + content for kind, content, length in blocks)
    made += b"\x01\0\0"  # the last block, which is empty
    return skipped + b"\x28\xb5\x2f\xfd\0" + bytes([exponent << 3 | rng.randrange(8) * mutated]) + made


def form(body: bytes, name: str, rng: random.Random, mutated: bool) -> tuple[str, bytes]:
    """Content type and body of a form with this file; mutated: other parts, headers, boundaries, forms within."""
    boundary = rng.choice(("part", "x" * 70, "----WebKitFormBoundary7MA4YWxkTrZu0gW", "a'()+_,-./:=? b", "-"))
    head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n'
    end, count = f"\r\n--{boundary}--\r\n", 1
    content_type = f'multipart/form-data; boundary="{boundary}"'
    if mutated:
        head += rng.choice((
            *("", "", "", "X: " + "y" * 100_000 + "\r\n", "X: y\r\n" * 5000, "\0: \0\r\n", ": \r\n", " folded\r\n"),
            *("Content-Transfer-Encoding: base64\r\n", "X\r\n", "Content-Type: text/csv; charset=utf-16\r\n"),
            *('Content-Disposition: form-data; filename="b.json"\r\n', "Content-Type: multipart/mixed; boundary=z\r\n"),
        ))  # fmt: skip
        name_options = ("filename*=UTF-8''a.csv", 'filename="', "filename=", 'filename="' + "a" * 99_999 + '.csv"', "x")
        if rng.random() < 0.1:
            head = f"Content-Disposition: form-data; {rng.choice(name_options)}\r\n"
        end = rng.choice(
            (end, end, end, "", f"\r\n--{boundary}", f"\n--{boundary}--", f"\r\n--{boundary}--x\r\n" + "z" * 9999)
        )
        count = rng.choice((1, 1, 1, 2, 300)) if len(body) < 10_000 else 1
        content_type = rng.choice(
            (content_type,) * 9 + ("multipart/form-data; boundary=other", "multipart/form-data; boundary*=x''%ff")
        )
    preamble = rng.choice(("", "", "", "\r\n", "preamble\r\n" if mutated else ""))
    part = f"--{boundary}\r\n{head}\r\n".encode()
    if mutated and rng.random() < 0.1:
        _, body = form(body, name, rng, False)
    return content_type, preamble.encode() + b"\r\n".join([part + body] * count) + end.encode()
