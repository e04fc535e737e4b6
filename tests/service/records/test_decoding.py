"""The decoder gives the values and errors that Pydantic alone would give."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from patient.record import EXAMPLE, FIELDS, PatientRecord
from service.records.decoding import (
    MAX_RECORD_BYTES,
    MEASUREMENTS,
    Values,
    _split_at_commas,
    decode_batch,
    decode_record,
    duplicate_keys,
    finish,
    split_array,
    to_utf8,
    validate,
)
from service.records.errors import (
    MAX_LISTED_ERRORS,
    InvalidRecord,
    InvalidRows,
    MalformedJson,
    TooLarge,
    shown_name,
)
from tests.service.api.test_json_batch import KEYS, TOKENS


def by_pydantic(content: bytes) -> Values:
    """Decode by PatientRecord, without msgspec. Raises MalformedJson and InvalidRecord."""
    content = to_utf8(content)
    try:
        record = PatientRecord.model_validate_json(content)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise MalformedJson(f"{error.errors()[0]['msg']}.") from None
        with pytest.raises(InvalidRecord) as invalid:
            validate(json.loads(content))
        expected = [shown_name(str(e["loc"][-1])) if e["loc"] else "" for e in error.errors()]
        assert [fault.field for fault in invalid.value.faults] == expected
        raise invalid.value from None
    if faults := duplicate_keys(content):
        raise InvalidRecord(faults)
    return tuple(getattr(record, name) for name in FIELDS)


def outcome(content: bytes, read: Callable[[bytes], Values]) -> Any:
    """The 13 values, or the exception's type, message and faults."""
    try:
        return read(content)
    except (MalformedJson, InvalidRecord) as error:
        return type(error), str(error), getattr(error, "faults", None)


@settings(max_examples=1000, deadline=None)
@given(st.dictionaries(KEYS, st.sampled_from(TOKENS), max_size=3), st.sets(st.sampled_from(FIELDS), max_size=1))
@example({}, set())
@example({"sex": "1.0", "ca": "null"}, set())
def test_msgspec_changes_neither_values_nor_errors(changed: dict[str, str], dropped: set[str]) -> None:
    """For any value of a field, and for missing and additional fields."""
    pairs = {key: json.dumps(value) for key, value in EXAMPLE.items() if key not in dropped} | changed
    content = ("{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in pairs.items()) + "}").encode()
    assert outcome(content, decode_record) == outcome(content, by_pydantic)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"NaN", b"\xff", b'{"age"', b"[" * 100_000, b'{"\xff": 1}', b"{} {}"]
)
def test_what_is_not_a_record_gets_pydantics_error(content: bytes) -> None:
    """msgspec's own errors are never shown."""
    assert outcome(content, decode_record) == outcome(content, by_pydantic)


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
def test_other_encodings_of_json_are_read(encoding: str) -> None:
    """PowerShell and .NET write them, with a byte order mark or without."""
    content = json.dumps(EXAMPLE, ensure_ascii=False).encode(encoding)
    assert decode_record(content) == decode_record(json.dumps(EXAMPLE).encode())
    array = json.dumps([EXAMPLE, EXAMPLE | {"ca": None}]).encode(encoding)
    assert list(map(json.loads, finish(split_array(to_utf8(array), 2)))) == [EXAMPLE, EXAMPLE | {"ca": None}]
    twice = json.dumps(EXAMPLE)[:-1] + ', "age": 50}'
    with pytest.raises(InvalidRecord) as invalid:
        decode_record(twice.encode(encoding))
    assert [fault.field for fault in invalid.value.faults] == ["age"]


@pytest.mark.parametrize("content", [b"\xff\xfe{", b"\xfe\xff\xd8\x00", b"\xff\xfe\0\0x", b"\xef\xbb\xbf", b"\0\0\0"])
def test_broken_encodings_are_not_json(content: bytes) -> None:
    with pytest.raises(MalformedJson):
        decode_record(content)


@pytest.mark.parametrize(
    ("value", "json_type"), [('"1"', "a string"), ("true", "a boolean"), ("[1]", "an array"), ('{"a": 1}', "an object")]
)
@pytest.mark.parametrize("name", ["sex", "age", "thal", "chol"])
def test_a_value_of_another_type_is_named_by_its_type(name: str, value: str, json_type: str) -> None:
    """A number in a string looks right to its sender, who has to learn that it is the type that is wrong."""
    content = json.dumps(EXAMPLE | {name: "?"}).replace('"?"', value).encode()
    field = MEASUREMENTS[name]
    with pytest.raises(InvalidRecord) as invalid:
        decode_record(content)
    expected = f"{field.title} must be a JSON number, not {json_type}: {field.valid_values}"
    assert invalid.value.faults == [(name, expected)]


@pytest.mark.parametrize("value", ["null", "NaN", "7", "1e999"])
def test_a_number_or_null_is_not_of_another_type(value: str) -> None:
    with pytest.raises(InvalidRecord) as invalid:
        decode_record(json.dumps(EXAMPLE | {"sex": "?"}).replace('"?"', value).encode())
    assert invalid.value.faults == [("sex", MEASUREMENTS["sex"].expected)]


@pytest.mark.parametrize("count", [100, 101, 100_000])
def test_no_more_faults_are_counted_than_are_listed(count: int) -> None:
    """Pydantic takes seconds for the faults of a record with 100,000 unknown keys."""
    with pytest.raises(InvalidRecord) as invalid:
        validate(EXAMPLE | dict.fromkeys(map(str, range(count)), 0))
    faults = invalid.value.faults
    assert len(faults) == min(count, MAX_LISTED_ERRORS + 1)
    assert ("more than 100 errors" in str(invalid.value)) == (count > 100) == ("more" in faults[-1].detail)


def test_faults_of_fields_are_found_among_many_unknown_keys() -> None:
    with pytest.raises(InvalidRecord) as invalid:
        validate({str(i): 0 for i in range(1000)} | EXAMPLE | {"age": 7})
    assert invalid.value.faults[0].field == "age"


VALUES = st.recursive(
    st.sampled_from([math.nan, -math.inf, 1.5, None, True]) | st.text('a"\\[]{},: é'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\[]{},:'), inner, max_size=3),
)


@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 1]))
def test_an_array_is_split_at_its_own_commas(values: list[Any], indent: int | None) -> None:
    """Not at those in strings and in nested values; however often the event loop does other work in between."""
    content = json.dumps(values, indent=indent, ensure_ascii=False).encode()
    for split in (split_array(content, 6), _split_at_commas(content, 6)):
        assert [repr(json.loads(record)) for record in finish(split)] == list(map(repr, values))


@pytest.mark.parametrize("end", [b"", b"}", b"]]", b"] 1", b',"]', b"]\x0b"])
@pytest.mark.parametrize("start", [b"[", b"[NaN,"])
def test_a_large_array_that_breaks_is_not_json(start: bytes, end: bytes) -> None:
    """Wherever it breaks, and whether or not msgspec gives up on it earlier."""
    content = start + b",".join([json.dumps(EXAMPLE).encode()] * 1000) + end
    with pytest.raises(MalformedJson):
        finish(decode_batch(content, 10_000, ""))


def test_a_record_beyond_the_limit_is_a_fault_of_its_row() -> None:
    large = json.dumps(EXAMPLE | {"x" * MAX_RECORD_BYTES: 0})
    with pytest.raises(InvalidRows) as invalid:
        finish(decode_batch(f"[{json.dumps(EXAMPLE)}, {large}]".encode(), 10, ""))
    assert invalid.value.tally.faults == [(1, "", f"The record is larger than {MAX_RECORD_BYTES} bytes")]


@pytest.mark.parametrize(
    "content",
    [
        b"[" + b",".join([b"[]"] * 2**20) + b"]",
        b"[" + b",".join([b"{}"] * 2**20) + b"]",
        b"[{" + b",".join([b'"age":63'] * 466_000) + b"}]",
        b"[{" + b",".join(b'"%x":0' % i for i in range(380_000)) + b"}]",
        b"[" + b",".join([b"[" * 100 + b"]" * 100] * 20_000) + b"]",
        b"[NaN," + b"[" * 2**22,
    ],
    ids=["arrays", "objects", "one key", "many keys", "nested", "deep"],
)
def test_more_values_than_records_need_are_refused_unparsed(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they are: to parse four megabytes of them holds the event loop for up to a second."""

    def parse(_: bytes) -> object:
        raise AssertionError("parsed")

    monkeypatch.setattr("service.records.decoding.parse", parse)
    with pytest.raises(TooLarge):
        finish(decode_batch(content, 10_000, ""))
    with pytest.raises((TooLarge, AssertionError)):  # a table may hold as much, but only its start is parsed at once
        finish(split_array(content, 10_000))
