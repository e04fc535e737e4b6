"""The page splits CSV where the service does, and parses what the service writes."""

import csv
import io
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page

from patient.csv import CsvError, _Reader, _RowScanner
from service.tables.csv import write
from tests.e2e.page.browser import opened

texts = st.lists(
    st.text('a,;"\r\n# ', max_size=40) | st.text('a,;"\n# ').map("sep=;\n".__add__), min_size=30, max_size=60
)
cells = st.text('a,"\r\n é', max_size=6)


@pytest.fixture(scope="module")
def modules(browser: Browser, port: int) -> Iterator[Page]:
    """One page for all examples, to import its modules."""
    with opened(browser, port) as fresh:
        yield fresh


@settings(max_examples=40, deadline=None)
@given(texts)
def test_the_last_whole_record_ends_where_the_service_sees_it(modules: Page, tried: list[str]) -> None:
    """No record is split, whatever its quotes."""
    for separator in ",;\t":
        script = (
            "([tried, separator]) => import('/web/csv.js').then(csv => tried.map(t => csv.findRecordEnd(t, separator)))"
        )
        found = modules.evaluate(script, [tried, separator])
        assert found == [_RowScanner(separator).end_of_rows(bytearray(text.encode())) for text in tried]


@settings(max_examples=40, deadline=None)
@given(texts)
def test_the_page_finds_the_same_header_as_the_service(modules: Page, tried: list[str]) -> None:
    """After comments and blank lines; a header without a line end is left to the service."""
    found = modules.evaluate("tried => import('/web/csv.js').then(csv => tried.map(csv.splitHeader))", tried)
    for text, (header, rest) in zip(tried, found, strict=True):
        reader = _Reader(io.BytesIO(text.encode()))
        try:
            line = reader.read_header().decode()
        except CsvError:
            line = ""
        is_whole = _RowScanner(",;\t").end_of_rows(bytearray(line.encode())) == len(line.encode())
        assert header == (line if is_whole else "")
        if header:
            assert rest == reader.buffer.decode()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(cells, st.none() | cells, cells), max_size=20))
def test_the_page_parses_what_the_service_writes(modules: Page, rows: list[tuple[str, str | None, str]]) -> None:
    """Cell by cell; null and an empty cell are the same."""
    named = pa.table({name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate("abc")})
    text = b"".join(bytes(memoryview(piece)) for piece in write(named.schema, named.to_batches())).decode()
    found = modules.evaluate("text => import('/web/csv.js').then(csv => [...csv.parseRecords(text)])", text)
    assert found == [["a", "b", "c"], *([cell or "" for cell in row] for row in rows)]
    assert found == [*csv.reader(io.StringIO(text, newline=""))]
