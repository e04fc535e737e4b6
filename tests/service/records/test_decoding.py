"""The decoder gives the values and errors that Pydantic alone would give."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from patient.record import EXAMPLE, FIELDS, PatientRecord
from service.records.decoding import Values, decode_record, duplicate_keys, split_array, to_utf8, validate
from service.records.errors import InvalidRecord, MalformedJson, shown_name
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
    assert list(map(json.loads, split_array(array))) == [EXAMPLE, EXAMPLE | {"ca": None}]
    twice = json.dumps(EXAMPLE)[:-1] + ', "age": 50}'
    with pytest.raises(InvalidRecord) as invalid:
        decode_record(twice.encode(encoding))
    assert [fault.field for fault in invalid.value.faults] == ["age"]


@pytest.mark.parametrize("content", [b"\xff\xfe{", b"\xfe\xff\xd8\x00", b"\xff\xfe\0\0x", b"\xef\xbb\xbf", b"\0\0\0"])
def test_broken_encodings_are_not_json(content: bytes) -> None:
    with pytest.raises(MalformedJson):
        decode_record(content)
