"""The page cuts CSV where the service would, and reads what the service writes."""

import csv
import io
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page

from service.tables.csv import LINE, NOTES, _end_of_rows, write
from tests.e2e.page.browser import opened

texts = st.lists(st.text('a,"\r\n# ', max_size=40), min_size=30, max_size=60)
cells = st.text('a,"\r\n é', max_size=6)


@pytest.fixture(scope="module")
def modules(browser: Browser, port: int) -> Iterator[Page]:
    """The page for all examples, with its modules at hand."""
    with opened(browser, port) as fresh:
        yield fresh


@settings(max_examples=40, deadline=None)
@given(texts)
def test_the_last_whole_record_ends_where_the_service_sees_it(modules: Page, tried: list[str]) -> None:
    """So that no record is torn, whatever quotes there are."""
    found = modules.evaluate("tried => import('/web/csv.js').then(csv => tried.map(csv.end))", tried)
    assert found == [_end_of_rows(text.encode()) for text in tried]


@settings(max_examples=40, deadline=None)
@given(texts)
def test_the_header_is_what_the_service_takes_for_it(modules: Page, tried: list[str]) -> None:
    """After notes and blank lines; one without a line end is left to the service."""
    found = modules.evaluate("tried => import('/web/csv.js').then(csv => tried.map(csv.headed))", tried)
    for text, (header, rest) in zip(tried, found, strict=True):
        body = NOTES.sub(b"", text.encode(), count=1)
        line = LINE.match(body)
        whole = line[0].decode() if line and line[0][-1:] in (b"\r", b"\n") else ""
        assert header == whole
        assert header + rest == body.decode()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(cells, st.none() | cells, cells), max_size=20))
def test_what_the_service_writes_is_read_back(modules: Page, rows: list[tuple[str, str | None, str]]) -> None:
    """Cell for cell; null and an empty one are the same."""
    named = pa.table({name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate("abc")})
    text = b"".join(bytes(memoryview(piece)) for piece in write(named.schema, named.to_batches())).decode()
    found = modules.evaluate("text => import('/web/csv.js').then(csv => [...csv.records(text)])", text)
    assert found == [["a", "b", "c"], *([cell or "" for cell in row] for row in rows)]
    assert found == [*csv.reader(io.StringIO(text, newline=""))]
