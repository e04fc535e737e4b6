"""A model file names what it was made for, and only what fits is taken."""

from pathlib import Path

import pytest

from patient.artefact import ENCODING, ArtefactError, Metadata, fingerprint, schema, versions


def metadata(**changes: object) -> Metadata:
    """Metadata as the trainer writes them."""
    blank: dict[str, object] = {"data": {}, "flags": {}, "metrics": {}, "libraries": {}}
    own = {"version": "1", "created": "now", "fields": schema(), "fingerprint": fingerprint(), "threshold": 0.5}
    return Metadata.model_validate(own | blank | changes)


def test_metadata_survive_the_round_trip() -> None:
    """What was written is what is read."""
    assert Metadata.from_strings(metadata().to_strings()) == metadata()


def test_the_fingerprint_depends_on_order_codes_and_encoding() -> None:
    """Any of the three changes what a number at one place of the input means."""
    fields = schema()
    prints = {
        fingerprint(),
        fingerprint(fields[::-1]),
        fingerprint([["age", [1]], *fields[1:]]),
        fingerprint(fields, ENCODING + 1),
    }
    assert len(prints) == 4


def test_a_model_for_other_fields_is_refused_naming_both_sides() -> None:
    """The message shows which side is old."""
    other = [*schema()[:-1], ["thal", [0, 1, 2]], ["bmi", []]]
    model = metadata(fields=other, fingerprint=fingerprint(other))
    with pytest.raises(ArtefactError, match=r"it takes thal\[0, 1, 2\], bmi; this code thal\[3, 6, 7\]"):
        model.check()


def test_a_model_of_another_encoding_is_refused() -> None:
    """The same fields, encoded in another way, are another model."""
    with pytest.raises(ArtefactError, match="the same in another order or encoding"):
        metadata(fingerprint=fingerprint(schema(), ENCODING + 1)).check()


def test_a_model_of_this_code_is_accepted() -> None:
    """The check passes."""
    metadata().check()


@pytest.mark.parametrize("key", ["fingerprint", "threshold", "fields"])
def test_metadata_that_lack_a_key_are_refused_naming_it(key: str) -> None:
    """A file of another tool is not guessed at."""
    pairs = metadata().to_strings()
    del pairs[key]
    with pytest.raises(ArtefactError, match=key):
        Metadata.from_strings(pairs)


def test_metadata_that_are_not_json_are_refused() -> None:
    """Another tool's metadata may hold the same keys."""
    with pytest.raises(ArtefactError, match="not JSON"):
        Metadata.from_strings(metadata().to_strings() | {"version": "v1"})


def test_only_complete_numbered_versions_count(tmp_path: Path) -> None:
    """A folder without model, a half-written one and a foreign name are no versions; 10 comes after 9."""
    for name in ("10", "9", ".writing-x", "latest"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").touch()
    (tmp_path / "11").mkdir()
    assert versions(tmp_path) == [9, 10]
    assert versions(tmp_path / "nowhere") == []
