"""CSV and JSON with odd cells, values, keys, nesting and counts."""

import json
import random
from collections.abc import Callable

from patient.record import EXAMPLE
from tests.fuzz import tables

ROW = ",".join(str(value) for value in EXAMPLE.values())


def csv(rng: random.Random, mutated: bool) -> bytes:
    names, rows = list(EXAMPLE), [ROW] * rng.choice(tables.SIZES)
    more = rng.sample(("note", "é", "", '"a\nb"'), rng.choice((0, 0, 1, 2)))
    lines = [
        ",".join([*names, *more]),
        *(",".join([row, *(rng.choice(('"a\n"', "x", "", '""')) for _ in more)]) for row in rows),
    ]
    end = rng.choice(("\n", "\r\n", "\n", "\r"))
    if not mutated:
        return end.join(lines).encode()
    for _ in range(rng.choice((1, 1, 3))):
        i = rng.randrange(len(lines))
        cells = lines[i].split(",")
        j = rng.randrange(len(cells))
        cells[j] = rng.choice((
            *('"', '""', '"\n', "1" * rng.choice((400, 2**20)), "1e999999", "\0", "\ufeff63", "0x3f", "1_000", '"6"3'),
            *("," * rng.choice((1, 1000)), "\r", '"' * 9999, "-0", "NaN", "inf", "1e-400", "=1", "\u2028", " 63 "),
        ))  # fmt: skip
        lines[i] = rng.choice((",", ",", ",", ",", ";", "\t")).join(
            cells * (rng.choice((1, 1, 1, 2, 500)) if len(cells[j]) < 1000 else 1)
        )
    return end.join(lines).encode() + rng.choice((b"", b"\n" * 5000, b"\xff\xfe", b'"'))


VALUES: tuple[Callable[[], str], ...] = (
    *(lambda: "[" * 100_000, lambda: '{"a":' * 100_000, lambda: "[" * 500 + "]" * 500, lambda: "1" * 5000),
    *(
        lambda: "1e999",
        lambda: "-0",
        lambda: "1e-999",
        lambda: "NaN",
        lambda: '"\\ud800"',
        lambda: '"\\u0000"',
        lambda: "01",
    ),
    *(
        lambda: '"' + "x" * 2**20 + '"',
        lambda: "null",
        lambda: "true",
        lambda: "{}",
        lambda: "[]",
        lambda: "9" * 400 + ".5",
    ),
    *(
        lambda: "[" + "1," * 10_000 + "1]",
        lambda: json.dumps({str(i): i for i in range(2000)}),
        lambda: "",
        lambda: "1.",
    ),
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
            pairs += [pairs[i]] * rng.choice((1, 500))
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
    return text.encode(
        rng.choice(("utf-16", "utf-32-le", "utf-8-sig", "latin-1")) if mutated and rng.random() < 0.1 else "utf-8",
        "replace",
    )
