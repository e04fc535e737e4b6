"""One record through the sieve gets the verdict, the words and the number that Pydantic alone would give."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from patient.record import EXAMPLE, FIELDS, PatientRecord
from service.http import body
from service.http.problems import Problem
from tests.service.api.test_json_batch import KEYS, TOKENS


def by_law(content: bytes) -> tuple[Any, ...]:
    """What Pydantic says, without a sieve. Raises Problem."""
    try:
        record = PatientRecord.model_validate_json(content)
    except ValidationError as error:
        raise body.refusal(error) from None
    body.refuse_doubled_keys(content, 1)
    return tuple(getattr(record, name) for name in FIELDS)


def outcome(content: bytes, read: Any) -> Any:
    """The 13 values, or what the Problem says."""
    try:
        return read(content)
    except Problem as problem:
        return problem.status, problem.detail, problem.errors, problem.total


@settings(max_examples=1000, deadline=None)
@given(st.dictionaries(KEYS, st.sampled_from(TOKENS), max_size=3), st.sets(st.sampled_from(FIELDS), max_size=1))
@example({}, set())
@example({"sex": "1.0", "ca": "null"}, set())
def test_the_sieve_changes_neither_verdict_nor_words_nor_values(changed: dict[str, str], dropped: set[str]) -> None:
    """Whatever stands in a field, and whatever is lacking or too much."""
    pairs = {key: json.dumps(value) for key, value in EXAMPLE.items() if key not in dropped} | changed
    content = ("{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in pairs.items()) + "}").encode()
    assert outcome(content, body.one) == outcome(content, by_law)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"NaN", b"\xff", b'{"age"', b"[" * 100_000, b'{"\xff": 1}', b"{} {}"]
)
def test_what_is_no_record_at_all_gets_pydantics_words(content: bytes) -> None:
    """The sieve's own complaints are never heard."""
    assert outcome(content, body.one) == outcome(content, by_law)
