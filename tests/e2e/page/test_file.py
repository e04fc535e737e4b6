"""A file of patients, chosen or dropped."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from playwright.sync_api import Page, expect

from patient.record import FIELDS
from tests.e2e.page.browser import post, rows, tab
from tests.kaggle import SENTENCE, as_csv, kaggles
from trainer.dataset import Dataset


def table(cleveland: Dataset, count: int) -> pa.Table:
    """Patients of the data set, repeated, with an extra column."""
    places = np.arange(count) % len(cleveland.rows)
    columns = zip(FIELDS, cleveland.rows[places].T.astype(np.float64), strict=True)
    named = {"mrn": pa.array([f"patient {i}" for i in range(count)])}
    return pa.table(named | {name: pa.array(column, from_pandas=True) for name, column in columns})


def score(page: Page, file: Path) -> None:
    """Choose a file on the tab for files."""
    tab(page, "Many patients")
    page.set_input_files("#file", file)


def downloaded(page: Page) -> tuple[str, bytes]:
    """Name and content of the download."""
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_a_file_in_kaggles_codes_is_refused_and_says_how_to_convert_it(page: Page, tmp_path: Path) -> None:
    """No row of it has a number."""
    (tmp_path / "heart.csv").write_text(as_csv(kaggles()))
    score(page, tmp_path / "heart.csv")
    expect(page.locator("#file-error")).to_contain_text(SENTENCE)
    expect(page.locator("#file-error")).to_contain_text("heart convert IN.csv OUT.csv")
    expect(page.locator("#rows")).to_be_empty()


def test_a_csv_file_gives_the_same_bytes_as_the_service(
    page: Page, port: int, cleveland: Dataset, tmp_path: Path
) -> None:
    """Although the page sends it in parts, with comments, quotes, line ends in cells, and invalid rows."""
    count = 60_000
    lines = [
        ",".join("" if cell is None else str(cell) for cell in row.values())
        for row in table(cleveland, count).to_pylist()
    ]
    for place in range(0, count, 997):
        lines[place] = f'"said ""{place}"",\r\nand more"' + lines[place][lines[place].index(",") :]
    lines[3] = lines[3].replace(",", ",old,", 1)
    bad = [3, 777, 59_999]
    lines[777] = "p," + ",".join(["1e9"] * 13)
    lines[59_999] = lines[59_999].replace(",", ",17", 1)
    text = "\ufeff# a note\r\n" + "\r\n".join([",".join(["mrn", *FIELDS]), *lines]) + "\r\n\r\n"
    (tmp_path / "ward.csv").write_bytes(text.encode())
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    score(page, tmp_path / "ward.csv")
    name, content = downloaded(page)
    assert len([url for url in requests if "batch" in url]) > 2
    assert name == "ward-scored.csv"
    assert content == post(port, "/predict/batch?on_error=report&keep=*", text.encode(), "text/csv")
    expect(page.locator("#rows")).to_contain_text("59,997 patients scored.")
    assert [int(row) for row, _ in rows(page, "Rows to correct")] == [place + 1 for place in bad]
    assert "cells" in rows(page, "Rows to correct")[0][1]
    assert len(rows(page, "The first 20 rows")) == 20
    assert sum(int(n.replace(",", "")) for _, n in rows(page, "Patients by probability")) == count - len(bad)


def test_a_csv_file_of_excel_in_europe_is_scored_in_parts(
    page: Page, port: int, cleveland: Dataset, tmp_path: Path
) -> None:
    """With `sep=`, semicolons, decimal commas, an index without a name, line ends in cells and a row of separators."""
    lines = [
        ";".join("" if cell is None else str(cell).replace(".", ",") for cell in row.values())
        for row in table(cleveland, 30_000).to_pylist()
    ]
    for place in range(0, len(lines), 997):
        lines[place] = f'"said ""{place}"",\r\nand; more"' + lines[place][lines[place].index(";") :]
    lines = [f"{i};{line}" for i, line in enumerate(lines)]
    text = "\ufeffsep=;\r\n" + "\r\n".join([";".join(["", "mrn", *FIELDS]), *lines, ";" * 20]) + "\r\n"
    (tmp_path / "ward.csv").write_bytes(text.encode())
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    score(page, tmp_path / "ward.csv")
    _, content = downloaded(page)
    assert len([url for url in requests if "batch" in url]) > 1
    assert content == post(port, "/predict/batch?on_error=report&keep=*", text.encode(), "text/csv")
    expect(page.locator("#rows")).to_contain_text("30,000 patients scored.")


def test_parquet_is_scored_too(page: Page, port: int, cleveland: Dataset, tmp_path: Path) -> None:
    """In one request; the results are CSV."""
    pyarrow.parquet.write_table(table(cleveland, 30_000), tmp_path / "ward.parquet")
    score(page, tmp_path / "ward.parquet")
    _, content = downloaded(page)
    body = (tmp_path / "ward.parquet").read_bytes()
    assert content == post(port, "/predict/batch?on_error=report&keep=*", body, "application/vnd.apache.parquet")
    expect(page.locator("#rows")).to_contain_text("30,000 patients scored.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no header"),
        (b"age,sex\n63,1\n", "names 2 of the 13 fields"),
        (",".join(FIELDS).encode() + b"\n", "empty"),
        (b"\xff\xfe\x00", "neither Parquet nor UTF-8 text"),
        (b"PAR1 but not really", "Parquet"),
    ],
)
def test_a_file_that_is_not_a_table_gets_an_error(page: Page, tmp_path: Path, content: bytes, message: str) -> None:
    """And no download."""
    (tmp_path / "odd.csv").write_bytes(content)
    score(page, tmp_path / "odd.csv")
    expect(page.locator("#file-error")).to_contain_text(message)
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.get_by_role("link", name="Download")).to_have_count(0)


def test_a_file_can_be_dropped_anywhere_on_the_page(page: Page) -> None:
    """The browser does not open the file, and the tab for files opens."""
    page.evaluate(
        """(header) => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([`${header}\n63,1${','.repeat(11)}\n`], 'one.csv'));
            const drop = new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true });
            document.getElementById('form').dispatchEvent(drop);
        }""",
        ",".join(FIELDS),
    )
    expect(page.locator("#rows")).to_contain_text("1 patient")
    assert downloaded(page)[0] == "one-scored.csv"


def test_a_file_can_be_cancelled_and_another_started(page: Page) -> None:
    """The request is aborted, and the next file is complete."""
    tab(page, "Many patients")
    page.route("**/predict/batch*", lambda _route: None, times=1)  # never answered
    page.get_by_role("button", name="made-up patients").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#file-error")).to_have_text("Cancelled.")
    page.get_by_role("button", name="made-up patients").click()
    assert len(downloaded(page)[1].splitlines()) == 5
