"""POST /predict/batch with tables: by content type in, by Accept out, bad rows refused or reported, and in place."""

import contextlib
import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pyarrow as pa
import pyarrow.parquet
import pytest
from fastapi.testclient import TestClient

from patient.record import EXAMPLE, FIELDS, measurements
from service.app import create_app
from service.model.predictor import Predictor
from service.settings import Settings
from service.tables.formats import ARROW, CSV, FORMATS, JSON, NDJSON, PARQUET, Format
from tests.service.http.test_problems import problem
from tests.service.tables.conftest import packed, unpacked

RECORDS = [EXAMPLE, EXAMPLE | {"ca": None, "age": 40}, EXAMPLE | {"chol": None}]
BAD = [EXAMPLE, EXAMPLE | {"chol": 0, "thal": 4}, EXAMPLE, EXAMPLE | {"age": None}]
CHOL = next(field.expected for field in measurements() if field.name == "chol")
each = pytest.mark.parametrize("format_", FORMATS, ids=lambda f: f.media_type.rpartition("/")[2])


def body(format_: Format, records: list[dict[str, Any]]) -> bytes:
    """Encode records in this format."""
    return packed(format_, pa.Table.from_pylist(records))


def post(client: TestClient, format_: Format, content: Any, query: str = "", **headers: str) -> Any:
    """POST a table with its media type."""
    sent = {"Content-Type": format_.media_type} | {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"/predict/batch{query}", content=content, headers=sent)


def answers(response: Any, format_: Format) -> list[dict[str, Any]]:
    """The rows of a successful response, without the summary of NDJSON."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].partition(";")[0] == format_.media_type
    return [row for row in unpacked(format_, response.content) if "summary" not in row]


@each
def test_a_response_has_the_format_of_the_table(client: TestClient, predictor: Predictor, format_: Format) -> None:
    """With the results of single requests; headers name the model version and threshold."""
    response = post(client, format_, body(format_, RECORDS), "?on_error=refuse")
    rows = answers(response, format_)
    for record, row in zip(RECORDS, rows, strict=True):
        single = client.post("/predict", json=record).json()
        assert row["probability"] == pytest.approx(single["probability"], abs=2e-7)
        assert (row["heart_disease"], row["missing"]) == (single["heart_disease"], single["missing"])
    if format_ is not JSON:
        assert response.headers["x-model-version"] == predictor.version
        assert float(response.headers["x-threshold"]) == predictor.metadata.threshold


@each
@pytest.mark.parametrize("answer", FORMATS, ids=lambda f: f.media_type.rpartition("/")[2])
def test_accept_selects_the_format_of_the_response(client: TestClient, format_: Format, answer: Format) -> None:
    """From any format to any other."""
    response = post(client, format_, body(format_, RECORDS), Accept=answer.media_type)
    assert [row["missing"] for row in answers(response, answer)] == [[], ["ca"], ["chol"]]


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        ("*/*", CSV),
        ("text/*", CSV),
        ("application/*", JSON),
        ("text/html, application/json;q=0.9, */*;q=0.8", JSON),
        ("text/csv;q=0.1, application/x-ndjson", NDJSON),
        ("text/csv;q=0, */*", JSON),
        ("application/vnd.apache.parquet;q=nonsense, text/csv", CSV),
    ],
)
def test_accept_follows_http(client: TestClient, accept: str, answer: Format) -> None:
    """Weights and ranges; among equals the format of the body is preferred."""
    answers(post(client, CSV, body(CSV, RECORDS), Accept=accept), answer)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("query", ["", "?on_error=report"])
def test_a_json_array_in_other_encodings_is_scored(client: TestClient, encoding: str, query: str) -> None:
    """As the same array in UTF-8 is."""
    content = body(JSON, RECORDS)
    expected = post(client, JSON, content, query).json()
    assert post(client, JSON, content.decode().encode(encoding), query).json() == expected


def test_a_byte_order_mark_before_ndjson_is_not_part_of_the_first_row(client: TestClient) -> None:
    """Windows editors write one."""
    lines = body(NDJSON, RECORDS)
    expected = answers(post(client, NDJSON, lines, "?keep=*"), NDJSON)
    assert answers(post(client, NDJSON, b"\xef\xbb\xbf" + lines, "?keep=*"), NDJSON) == expected


@pytest.mark.parametrize(
    ("media_type", "format_"),
    [
        ("application/ndjson", NDJSON),
        ("application/jsonl", NDJSON),
        ("application/jsonlines; charset=utf-8", NDJSON),
        ("Application/X-JsonLines", NDJSON),
        ("application/csv", CSV),
        ("application/vnd.apache.arrow.file", ARROW),
    ],
)
def test_other_names_of_a_format_are_taken_and_accepted(client: TestClient, media_type: str, format_: Format) -> None:
    """Only the format's own name is answered, and listed in errors."""
    content = body(format_, RECORDS)
    sent = client.post("/predict/batch", content=content, headers={"Content-Type": media_type})
    assert len(answers(sent, format_)) == len(RECORDS)
    answers(post(client, JSON, body(JSON, RECORDS), Accept=media_type), format_)
    assert "jsonl" not in problem(post(client, CSV, body(CSV, RECORDS), Accept="text/html"), 406).detail


def test_an_unsupported_accept_is_406(client: TestClient) -> None:
    """The error names the supported types."""
    assert "text/csv" in problem(post(client, CSV, body(CSV, RECORDS), Accept="text/html"), 406).detail
    problem(post(client, JSON, body(JSON, RECORDS), Accept="application/*;q=0"), 406)


@each
def test_a_table_with_invalid_rows_is_rejected_and_they_are_listed(client: TestClient, format_: Format) -> None:
    """With row, column and reason."""
    details = problem(post(client, format_, body(format_, BAD), "?on_error=refuse"), 422)
    thal, age = (next(field.expected for field in measurements() if field.name == name) for name in ("thal", "age"))
    found = [(error.pointer, error.detail) for error in details.errors or []]
    assert found == [("/1/chol", CHOL), ("/1/thal", thal), ("/3/age", age)]
    assert details.total == 3


@each
def test_with_report_invalid_rows_get_an_error_in_place(client: TestClient, format_: Format) -> None:
    """The valid rows are scored."""
    rows = answers(post(client, format_, body(format_, BAD), "?on_error=report"), format_)
    good = client.post("/predict", json=EXAMPLE).json()["probability"]
    null = "" if format_ is CSV else None
    assert [row["probability"] for row in rows] == [
        pytest.approx(good, abs=2e-7),
        None,
        pytest.approx(good, abs=2e-7),
        None,
    ]
    assert [row["heart_disease"] for row in rows] == [good >= 0.5, None, good >= 0.5, None]
    assert [row["error"] == null for row in rows] == [True, False, True, False]
    assert rows[1]["error"].startswith(f"chol: {CHOL} | thal: ")


def test_ndjson_reports_by_default_and_ends_with_a_summary(client: TestClient, predictor: Predictor) -> None:
    """It streams, so errors are reported in place."""
    lines = post(client, NDJSON, body(NDJSON, BAD)).text.splitlines()
    assert len(lines) == 5
    assert json.loads(lines[-1]) == {
        "summary": {"rows": 4, "scored": 2, "bad": 2, "model_version": predictor.version, "threshold": 0.5}
    }


@pytest.mark.parametrize("format_", [JSON, CSV, ARROW, PARQUET], ids=lambda f: f.media_type.rpartition("/")[2])
def test_every_other_format_rejects_invalid_rows_by_default(client: TestClient, format_: Format) -> None:
    """A response that looks complete is complete."""
    problem(post(client, format_, body(format_, BAD)), 422)


def test_a_hundred_errors_are_listed_and_all_are_counted(client: TestClient) -> None:
    """A response stays small, whatever was sent."""
    details = problem(post(client, CSV, body(CSV, [EXAMPLE | {"age": 400, "chol": 0}] * 30_000)), 422)
    assert details.errors is not None
    assert (len(details.errors), details.total) == (100, 60_000)
    assert "30000 of 30000 rows" in details.detail


@each
def test_named_columns_pass_through(client: TestClient, format_: Format) -> None:
    """By name, or all with `*`."""
    records = [record | {"mrn": f"m,{i}", "visit": f"{i}"} for i, record in enumerate(RECORDS)]
    content = body(format_, records)
    for query, kept in (
        ("?keep=mrn,visit", ["mrn", "visit"]),
        ("?keep=*", ["mrn", "visit"]),
        ("?keep=visit&keep=mrn", ["mrn", "visit"]),
    ):
        rows = answers(post(client, format_, content, query + "&on_error=refuse"), format_)
        assert {name for row in rows for name in row} == {*kept, "probability", "heart_disease", "missing"}
        assert [row["mrn"] for row in rows] == ["m,0", "m,1", "m,2"]
        assert [str(row["visit"]) for row in rows] == ["0", "1", "2"]
    details = problem(post(client, format_, content, "?keep=mrn&on_error=refuse"), 422)
    told = {(error.pointer.rpartition("/")[2], error.detail) for error in details.errors or []}
    in_json = ("visit", "Not a field of a patient record")
    in_tables = ("", "Column 15: not in a patient record; name in `keep` what is to pass through")
    assert told == {in_json if format_ in (JSON, NDJSON) else in_tables}


@pytest.mark.parametrize(
    "query", ["?keep=age", "?keep=error", "?on_error=ignore", "?on_error=report&on_error=refuse", "?on_eror=report"]
)
def test_an_unknown_or_invalid_query_is_rejected(client: TestClient, query: str) -> None:
    """A misspelt option is not silently ignored."""
    for format_ in (JSON, CSV):
        problem(post(client, format_, body(format_, RECORDS), query), 422)


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
@each
def test_a_compressed_body(client: TestClient, format_: Format, packing: str) -> None:
    """By Content-Encoding; a body that is cut off is rejected."""
    small = pa.compress(body(format_, RECORDS), packing, asbytes=True)
    response = post(client, format_, small, "?on_error=refuse", Content_Encoding=packing)
    assert len(answers(response, format_)) == 3
    problem(post(client, format_, small[:-1], "?on_error=refuse", Content_Encoding=packing), 400)


@pytest.mark.parametrize("packing", ["br", "gzip, gzip", "nonsense"])
def test_another_encoding_is_415(client: TestClient, packing: str) -> None:
    """The error names the supported ones."""
    assert "zstd" in problem(post(client, CSV, b"", Content_Encoding=packing), 415).detail


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "text/csv; charset=latin-1", "application/xml", "multipart/mixed; boundary=x"]
)
def test_another_type_is_415_and_names_the_supported_ones(client: TestClient, content_type: str) -> None:
    """Also in the header Accept-Post."""
    response = client.post("/predict/batch", content=b"x", headers={"Content-Type": content_type})
    problem(response, 415)
    assert "charset" in content_type or "text/csv" in response.headers["accept-post"]


@each
@pytest.mark.parametrize("named", [True, False])
def test_a_file_in_a_form(client: TestClient, format_: Format, named: bool) -> None:
    """Its name or its type gives the format; the response has the same."""
    name, kind = (f"t{format_.suffixes[0]}", "application/octet-stream") if named else ("blob", format_.media_type)
    response = client.post("/predict/batch?on_error=refuse", files={"file": (name, body(format_, RECORDS), kind)})
    assert len(answers(response, format_)) == 3


def test_a_compressed_file_in_a_form(client: TestClient) -> None:
    """Its name gives the compression."""
    files = {"file": ("t.csv.gz", gzip.compress(body(CSV, RECORDS)), "application/gzip")}
    assert len(answers(client.post("/predict/batch", files=files), CSV)) == 3


@pytest.mark.parametrize("charset", ["idna", "undefined", "punycode", "zlib", "no-such"])
def test_a_boundary_in_no_charset_is_none(client: TestClient, charset: str) -> None:
    """RFC 2231 lets a parameter name its charset; some codecs of Python are not charsets."""
    for value in (f"{charset}''abc", f"{charset}''%ff%fe"):
        headers = {"Content-Type": f"multipart/form-data; boundary*={value}"}
        problem(client.post("/predict/batch", content=b"x", headers=headers), 400)


def test_a_form_without_exactly_one_file_is_rejected(client: TestClient) -> None:
    """Two files, other fields, an unknown type, no file, a form that is cut off."""
    content = body(CSV, RECORDS)
    problem(client.post("/predict/batch", files=[("a", ("a.csv", content)), ("b", ("b.csv", content))]), 400)
    problem(client.post("/predict/batch", files={"a": ("a.csv", content)}, data={"keep": "mrn"}), 400)
    problem(client.post("/predict/batch", files={"a": ("a.xlsx", content)}), 415)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for form, status in (
        (b"--x--\r\n", 400),
        (b"", 400),
        (b"nonsense", 400),
        (b'--x\r\nContent-Disposition: form-data; name="f"; filename="f.csv"\r\n\r\n' + content, 400),
    ):
        problem(client.post("/predict/batch", content=form, headers=headers), status)
    problem(client.post("/predict/batch", content=b"", headers={"Content-Type": "multipart/form-data"}), 400)


@each
@pytest.mark.parametrize("option", ["refuse", "report"])
def test_a_table_without_rows_is_rejected(client: TestClient, format_: Format, option: str) -> None:
    """An empty body, and a header alone."""
    assert post(client, format_, b"", f"?on_error={option}").status_code in (400, 422)
    if format_ not in (JSON, NDJSON):
        empty = packed(format_, pa.Table.from_pylist(RECORDS).slice(0, 0))
        details = problem(post(client, format_, empty, f"?on_error={option}"), 422)
        assert "empty" in (details.errors or [])[0].detail


@each
def test_limits_are_413_and_named(predictor: Predictor, format_: Format) -> None:
    """Compressed and decompressed bytes, rows, and bytes on disk."""
    content = body(format_, RECORDS)
    small = pa.compress(content, "gzip", asbytes=True)
    most = {"max_table": len(content) - 1, "max_body": len(content) - 1}
    unpacked_most = {"max_unpacked": len(content) - 1} | ({"max_body": len(content) - 1} if format_ is JSON else {})
    for limit, sent, packing in (
        (most, content, "identity"),
        (unpacked_most, small, "gzip"),
        ({"max_table_rows": 2, "max_rows": 2}, content, "identity"),
    ):
        with TestClient(create_app(Settings().model_copy(update=limit), predictor)) as client:
            details = problem(post(client, format_, sent, "?on_error=refuse", Content_Encoding=packing), 413)
            assert any(str(number) in details.detail for number in limit.values())
    if format_ is not JSON:
        with TestClient(create_app(Settings(max_spool=20), predictor)) as client:
            problem(post(client, format_, content, "?on_error=refuse"), 413)


def test_a_decompression_bomb_is_413(client: TestClient) -> None:
    """A few kilobytes that decompress to hundreds of megabytes."""
    bomb = pa.compress(",".join(FIELDS).encode() + b"\n" * 300_000_000, "zstd", asbytes=True)
    assert "200 times" in problem(post(client, CSV, bomb, Content_Encoding="zstd"), 413).detail


def test_no_value_of_a_table_is_in_a_response_or_a_log(client: TestClient, caplog: Any) -> None:
    """Whatever is wrong with the table."""
    for format_ in FORMATS:
        content = body(format_, [EXAMPLE | {"chol": 98765.4321}])
        for sent in (content, content[:-3], content[5:]):
            for option in ("refuse", "report"):
                with contextlib.suppress(httpx.RemoteProtocolError):  # an answer that has begun is cut off
                    assert b"98765" not in post(client, format_, sent, f"?on_error={option}").content
    headless = body(CSV, [EXAMPLE]).partition(b"\n")[2]
    assert "145" not in post(client, CSV, headless * 2).text
    assert "98765" not in caplog.text


def test_an_unexpected_exception_is_a_500_without_details(monkeypatch: pytest.MonkeyPatch, client: TestClient) -> None:
    """Also in a thread."""

    def bug(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Predictor, "__call__", bug)
    response = post(client, CSV, body(CSV, RECORDS))
    problem(response, 500)
    assert "secret" not in response.text


def test_without_a_model_a_table_is_503() -> None:
    """Like every request that needs one."""
    waiting = TestClient(create_app(Settings()))  # not entered: its lifespan has not begun
    problem(post(waiting, CSV, body(CSV, RECORDS)), 503)


def test_a_body_may_arrive_in_pieces(client: TestClient) -> None:
    """Without a length, as curl sends a pipe."""

    def pieces() -> Iterator[bytes]:
        content = body(CSV, RECORDS * 1000)
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    assert len(answers(post(client, CSV, pieces()), CSV)) == 3000


def test_columnar_responses_have_types_and_metadata(client: TestClient) -> None:
    """Arrow and Parquet have typed columns, model version and threshold."""
    for format_ in (ARROW, PARQUET):
        content = post(client, format_, body(format_, RECORDS), "?on_error=report").content
        table = (
            pa.ipc.open_stream(content).read_all() if format_ is ARROW else pa.parquet.read_table(io.BytesIO(content))
        )
        kinds = [str(kind).replace("element", "item") for kind in table.schema.types]
        assert kinds == ["double", "bool", "list<item: string>", "string"]
        assert {b"model_version", b"threshold"} <= set(table.schema.metadata)


@pytest.mark.parametrize("format_", [CSV, ARROW, PARQUET], ids=["csv", "arrow", "parquet"])
@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__"])
def test_a_column_without_a_name_is_left_out_and_noted(client: TestClient, format_: Format, name: str) -> None:
    """An index, as pandas and R write it; in a header, and in the summary of NDJSON."""
    content = body(format_, [{name: 98765} | record for record in RECORDS])
    note = "Column 1 without a name: left out"
    for keep in ("", "&keep=*"):
        response = post(client, format_, content, f"?on_error=refuse{keep}")
        assert list(answers(response, format_)[0]) == ["probability", "heart_disease", "missing"]
        assert response.headers["x-table-notes"] == note
        *_, last = post(client, format_, content, f"?on_error=report{keep}", Accept=NDJSON.media_type).text.splitlines()
        assert json.loads(last)["summary"]["notes"] == [note]
        assert "98765" not in response.text + last
    plain = post(client, format_, body(format_, RECORDS))
    assert "x-table-notes" not in plain.headers


def test_a_table_as_excel_writes_it_in_europe_is_scored(client: TestClient) -> None:
    rows = packed(CSV, pa.Table.from_pylist(RECORDS)).replace(b'"', b"").replace(b",", b";").replace(b".", b",")
    excel = b"\xef\xbb\xbfsep=;\r\n" + rows.replace(b"\n", b"\r\n") + b";;;;;;;;;;;;\r\n"
    assert post(client, CSV, excel).content == post(client, CSV, body(CSV, RECORDS)).content
