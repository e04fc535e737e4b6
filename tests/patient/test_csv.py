"""CSV as Excel, LibreOffice, pandas, R and others write it is one table; what is not read is named, never repeated."""

import codecs
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from patient import csv
from patient.csv import CsvError, CsvTable, LineCounter, RowTooLong, row_lines
from patient.record import EXAMPLE, FIELDS
from patient.table import describe_unnamed
from tests.service.tables.conftest import Pieces

HEADER = ",".join(FIELDS)
ROW = ",".join(str(EXAMPLE[name]) for name in FIELDS)
VALUES = [float(str(EXAMPLE[name])) for name in FIELDS]
TABLE = f"{HEADER}\n{ROW}\n{ROW}\n"
EUROPEAN = TABLE.replace(",", ";").replace("2.3", "2,3")


def read(content: str | bytes | Sequence[bytes], texts: Sequence[str] = ()) -> tuple[Any, ...]:
    """All rows: the header, numbers as text, texts and faults."""
    if isinstance(content, str):
        content = content.encode()
    table = CsvTable(Pieces([content] if isinstance(content, bytes) else content))
    numbers, kept, faults, first = list[Any](), list[Any](), dict[int, str](), 0
    for rows in table.read_rows(texts):
        numbers += np.column_stack(rows.numbers).tolist()
        kept += [*zip(*(column.to_pylist() for column in rows.texts), strict=True)]
        faults |= {first + row: fault for row, fault in rows.faults.items()}
        first += len(rows.numbers[0])
    return table.header, repr(numbers), kept, faults


DIALECTS: dict[str, str | bytes] = {
    "commas": TABLE,
    "Excel, European": EUROPEAN.replace("\n", "\r\n"),
    "Excel, CSV UTF-8": codecs.BOM_UTF8 + EUROPEAN.replace("\n", "\r\n").encode(),
    "Excel, sep=": ("sep=;\n" + EUROPEAN).replace("\n", "\r\n"),
    "sep= with commas": f"SEP=,\n{TABLE}",
    "semicolons and decimal points": TABLE.replace(",", ";"),
    "LibreOffice, tabs": TABLE.replace(",", "\t"),
    "tabs and decimal commas": EUROPEAN.replace(";", "\t"),
    "quoted": "".join('"' + line.replace(",", '","') + '"\n' for line in TABLE.splitlines()),
    "quoted, European": "".join('"' + line.replace(";", '";"') + '"\n' for line in EUROPEAN.splitlines()),
    "old Mac": TABLE.replace("\n", "\r"),
    "no last line end": TABLE.rstrip(),
    "capitals and blanks": TABLE.replace(HEADER, HEADER.upper().replace(",", " , ")),
    "pandas, index": re.sub("^(?=[0-9])", "17,", f",{TABLE}", flags=re.MULTILINE),
    "pandas, index read as a column": f"Unnamed: 0.1,Unnamed: 0,{HEADER}\n0,0,{ROW}\n1,1,{ROW}\n",
    "R, row names": re.sub("^(?=[0-9])", '"Patient 1",', f'"",{TABLE}', flags=re.MULTILINE),
    "trailing commas": TABLE.replace("\n", ",,,\n"),
    "trailing semicolons": EUROPEAN.replace("\n", ";\r\n"),
    "rows of commas": f"{TABLE},,,,,,,,,,,,\n,,\n,,,,,,,,,,,,,,,,\n \n",
    "rows of commas among others": f",,,,\n{HEADER}\n,,,,,,,,,,,,\n{ROW}\n,,,,,,,,,,,,\n\n{ROW}\n",
    "rows of semicolons": f"{EUROPEAN};;;;;;;;;;;;\n",
    "notes": f"# exported, \"in May\n#\n#made up\n\n{TABLE}",
}  # fmt: skip


@pytest.mark.parametrize("content", DIALECTS.values(), ids=DIALECTS)
def test_every_dialect_is_the_same_table(content: str | bytes) -> None:
    """Also byte by byte."""
    header, numbers, _, faults = read(content)
    assert [name for name in header if name in FIELDS] == [*FIELDS]
    assert (numbers, faults) == (repr([VALUES, VALUES]), {})
    content = content.encode() if isinstance(content, str) else content
    assert read([content[i : i + 1] for i in range(len(content))]) == (header, numbers, [], {})


def test_a_cell_between_semicolons_has_a_decimal_point_or_a_comma() -> None:
    """Never both, so that thousands are not read as thousandths; between commas, "2,3" in quotes is no number."""
    for cell, value in (("2.3", 2.3), ("2,3", 2.3), (",5", 0.5), ("2,", 2.0), ("1,5e0", 1.5)):
        for others in ("", ROW.replace(",", ";").replace("145", "x") + "\n"):  # which makes it a table of text
            numbers = read(
                f"{HEADER}\n{ROW.replace('2.3', cell.replace(',', '@'))}\n".replace(",", ";").replace("@", ",") + others
            )[1]
            assert numbers.startswith(repr([[*VALUES[:9], value, *VALUES[10:]]])[:-1])
    for cell in ("1.234,5", "1,234.5", "1,2,3"):
        assert "inf" in read(TABLE.replace(",", ";").replace("2.3", cell))[1]
    assert "inf" in read(TABLE.replace("2.3", '"2,3"'))[1]


def test_a_row_with_a_decimal_comma_between_commas_is_never_a_shifted_row() -> None:
    """Not even where trailing commas in the header leave room for one more cell."""
    shifted = ROW.replace("2.3,3,0,6", "2,3,3,3,6")
    for header in (HEADER, HEADER + ",", HEADER + ",,"):
        faults = read(f"{header}\n{shifted + ',' * header.endswith(',,')}\n")[3]
        assert list(faults) == [0]
    assert faults[0] == "Column 14 has no name in the header, but the row has a value there"


def test_columns_without_a_name_are_left_out_and_noted_by_place() -> None:
    header = read(f",{HEADER},Unnamed: 14,\n1,{ROW},,\n")[0]
    assert describe_unnamed(header) == ["Columns 1, 15, 16 without a name: left out"]
    assert describe_unnamed(header, ["Unnamed: 14"]) == ["Columns 1, 16 without a name: left out"]
    assert read(f"{HEADER},Unnamed: 13\n{ROW},x\n", ["Unnamed: 13"])[2] == [("x",)]
    assert describe_unnamed([*FIELDS, "mrn", "Unnamed"]) == []


def test_a_line_of_commas_within_a_quoted_cell_is_part_of_it() -> None:
    cell = "a\n,,,\n\n,\nb"
    assert read(f'mrn,{HEADER}\n,,\n"{cell}",{ROW}\n,,,\n', ["mrn"])[2] == [(cell,)]


def test_nan_with_a_payload_is_no_missing_value() -> None:
    """pyarrow reads it as NaN; beside text in another row it was refused."""
    for others in ("", ROW.replace("145", "x") + "\n"):
        assert "inf" in read(f"{HEADER}\n{ROW.replace('233', 'nan(1)')}\n{others}")[1].partition("]")[0]


UMLAUT = TABLE.replace("age,", "größe,age,").replace("\n63", "\nx,63")
REFUSED: dict[str, tuple[bytes, str]] = {
    "cp1252": (UMLAUT.encode("cp1252"), "not UTF-8 text but probably Windows-1252 or Latin-1: save it as UTF-8"),
    "cp1252, in a row": (f"{TABLE}{ROW},größe\n".encode("cp1252"), "in Excel as `CSV UTF-8`"),
    "unknown": (TABLE.encode() + b"\x81\n", "The table is not UTF-8 text: save it as UTF-8"),
    **{
        name: (TABLE.encode(name), f"UTF-{name[4:6]} text: save it as UTF-8")
        for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")
    },
    "Unicode text of Excel": (codecs.BOM_UTF16_BE + EUROPEAN.encode("utf-16-be"), "UTF-16 text"),
    "bars": (TABLE.replace(",", "|").encode(), "separated by vertical bars, not by commas, semicolons or tabs"),
    "spaces": (TABLE.replace(",", " ").encode(), "separated by spaces"),
    "no line ends": (TABLE.replace("\n", "").encode(), "has no line ends"),
    "no line ends, European": (EUROPEAN.replace("\n", "").encode(), "has no line ends"),
    "open quote": (TABLE.encode() + b'"', "A quote is never closed"),
    "open quote in the header": (b'"' + TABLE.encode(), "The first line is not a CSV header"),
    "too many columns": (f"{HEADER}{',' * 20_000}\n".encode(), "more than 16384 columns"),
    "empty": (b"", "The table is empty"),
    "only notes": (b"# a\n\n;;;", "The table is empty"),
}


@pytest.mark.parametrize(("content", "cause"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_read_is_named(content: bytes, cause: str) -> None:
    """The same, in one piece and byte by byte."""
    for pieces in ([content], [content[i : i + 1] for i in range(len(content))]):
        with pytest.raises(CsvError, match=re.escape(cause)):
            read(pieces)


CELLS = st.sampled_from(
    ["", "?", "63", "2.3", "2,3", '"2,3"', '"1"', "nan(1)", "x", '"a""b"', '"a\n,,\n"', 'a"b', '"', "é"]
)
TEXTS = st.builds(
    lambda start, names, rows, separator, end, last: (
        start + end.join(separator.join(row) for row in [names, *rows]) + last
    ).encode(),
    st.sampled_from(["", "\ufeff", "sep=;\n", "# a, \"b\r\n\n", ",,\r\n", '"']),
    st.sampled_from([[*FIELDS], ["", *FIELDS], ["mrn", *FIELDS, "", ""], [f'"{name}"' for name in FIELDS], ["a", "b"]]),
    st.lists(st.lists(CELLS, min_size=12, max_size=17) | st.just(ROW.split(",")) | st.just([""] * 14), max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    st.sampled_from(["", "\n", "\r", '"', "\n,,,\n"]),
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.lists(st.integers(1, 60), min_size=1, max_size=20))
@example(f"# a\n{TABLE}".encode(), [4])
def test_the_pieces_of_a_table_do_not_matter(content: bytes, sizes: list[int]) -> None:
    """Whatever the dialect, the result or the error is that of the whole."""

    def outcome(pieces: Sequence[bytes]) -> Any:
        try:
            return read(pieces, ["mrn"] if b"mrn" in content.split(b"\n")[0] else [])
        except (CsvError, ValueError) as error:  # the latter: of a header that lacks the fields
            return repr(error)

    pieces, start = list[bytes](), 0
    while start < len(content):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(content[start : start + size])
        start += size
    assert outcome(pieces) == outcome([content])


class Counted:
    """A pattern that counts the bytes that it is given to look at."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern, self.count = pattern, 0

    def __getattr__(self, name: str) -> Any:
        def search(text: bytes, start: int, stop: int | None = None) -> Any:
            self.count += (len(text) if stop is None else stop) - start
            return getattr(self.pattern, name)(text, start, *([] if stop is None else [stop]))

        return search


@pytest.mark.parametrize(
    "text", ['"' + "\n" * 5000, '"' + "a\n" * 2500, '"","\n' * 1000, '"' * 5000, "a,\"\n\"," * 700 + "\n", "x" * 5000]
)  # fmt: skip
def test_bytes_that_arrive_one_by_one_are_looked_at_once(text: str) -> None:
    """An open quote is not looked for again from its start at each byte."""
    scanner, buffer, found = csv._RowScanner(","), bytearray(), 0
    counted = {name: Counted(getattr(scanner, name)) for name in ("quoted", "rest_of_quoted", "closed")}
    for name, pattern in counted.items():
        setattr(scanner, name, pattern)
    for byte in text.encode():
        buffer.append(byte)
        end = scanner.end_of_rows(buffer)
        found += end
        del buffer[:end]
        assert len(buffer) - scanner.start <= 1
    assert sum(pattern.count for pattern in counted.values()) <= 4 * len(text)
    whole = csv._RowScanner(",")
    assert found == whole.end_of_rows(bytearray(text.encode()))


def test_the_lines_before_the_header_are_bounded() -> None:
    for content in ("\n" * 2_000_000, "# a\n" * 500_000, "#" * 2_000_000, '"' + "x" * 2_000_000):
        with pytest.raises(CsvError, match=r"no header in its first 1048576 bytes|longer than 1048576"):
            read(content)
    with pytest.raises(RowTooLong):
        read([TABLE.encode(), *[b"x" * 100_000] * 30])


LINES = st.lists(st.sampled_from(["row", '"ro\nw', "row of 1 cell", "", ",,,", " ", ",,,,,,,,,,,,,"]), max_size=12)


@settings(deadline=None)
@given(LINES, st.sampled_from(["\n", "\r\n", "\r"]), st.integers(1, 200))
def test_a_row_is_named_by_the_line_that_an_editor_shows(kinds: list[str], end: str, size: int) -> None:
    """Among blank lines, rows of commas, and line ends in quotes, wherever blocks end."""
    lines = []
    for i, kind in enumerate(kinds):
        text = kind.replace("row of 1 cell", f"row {i}").replace('"ro\nw', f'"row {i}{end}"')
        lines.append(text.replace("row", f"row {i}") + f",{ROW}" * (kind == "row") + f",{ROW}" * ('"' in kind))
    content = end.join(["# note", f"mrn,{HEADER}", *lines]).encode()
    table = CsvTable(Pieces([content[i : i + size] for i in range(0, len(content), size)]))
    found: list[int] = []
    for rows in table.read_rows(["mrn"]):
        found += row_lines(rows, table.separator, table.lines).tolist()
    shown = io.StringIO(content.decode(), newline=None).read().split("\n")
    assert found == [line for line, text in enumerate(shown, 1) if text.strip('"').startswith("row")]


@settings(deadline=None)
@given(st.text("ab\r\n"), st.integers(1, 5))
def test_lines_are_counted_as_editors_count_them(text: str, size: int) -> None:
    counter = LineCounter()
    for start in range(0, len(text), size):
        counter.add(text[start : start + size].encode())
    assert counter.count == len(io.StringIO(text, newline=None).read().split("\n")) - 1
