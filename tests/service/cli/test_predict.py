"""One patient on a command line: flags, words, files, and the same answers as the service gives."""

import json
import math
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from heart import heart
from patient.record import EXAMPLE, FIELDS, PatientRecord, measurements
from service.cli import record_options
from service.client.encode import encode_record
from service.records.schema import Explanation, Prediction
from tests.conftest import MODELS, ROOT
from tests.e2e.serving import answering, free_port, serving

WORDS = {field.name: field for field in measurements() if field.codes}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder where the models are, at 80 columns."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("HEART_KEY", raising=False)


def run(*words: str | Path, said: str | None = None) -> Result:
    """What a command line comes to."""
    return CliRunner().invoke(heart, [str(word) for word in words], input=said, prog_name="heart")


def as_flags(record: dict[str, Any]) -> list[str]:
    """A record as a command line."""
    return [word for name, value in record.items() if value is not None for word in (f"--{name}", str(value))]


def test_every_field_has_a_flag_and_every_code_its_word() -> None:
    """In the help of both commands, which fits a terminal of 80 columns."""
    for command in ("predict", "explain"):
        said = run(command, "--help").stdout
        assert max(map(len, said.splitlines())) <= 80
        words = " ".join(said.split())
        for field in measurements():
            assert f"--{field.name} " in words
            for code, label in field.codes.items():
                assert f"{code} {label}" in words
        for status in range(4):
            assert f"\n    {status}  " in said


@pytest.mark.parametrize("record", [EXAMPLE, EXAMPLE | {"ca": None, "chol": None}])
def test_flags_files_stdin_and_a_service_give_the_same_answer(record: dict[str, Any], tmp_path: Path) -> None:
    """To the last digit, for the probability and for the reasons."""
    file = tmp_path / "patient.json"
    file.write_text(json.dumps(record))
    with serving("--log-level", "error") as (port, _):
        url = f"http://127.0.0.1:{port}"
        for command, model in (("predict", Prediction), ("explain", Explanation)):
            ways = [
                run(command, "--json", *as_flags(record)),
                run(command, "--json", file),
                run(command, "--json", "-", said=json.dumps(record)),
                run(command, file, "--json", "--url", url),
            ]
            assert [way.exit_code for way in ways] == [0] * 4
            assert len({way.stdout for way in ways}) == 1
            assert model.model_validate_json(ways[0].stdout).missing == [n for n, v in record.items() if v is None]


def test_what_is_not_given_was_not_taken() -> None:
    """All but age and sex, which must be known."""
    told = Prediction.model_validate_json(run("predict", "--age", "63", "--sex", "male", "--json").stdout)
    assert told.missing == [name for name in FIELDS if name not in ("age", "sex")]
    for words in ((), ("--age", "63"), ("--chol", "200", "--sex", "female")):
        result = run("predict", *words)
        assert result.exit_code == 2
        assert "or a FILE." in result.stderr


def test_chest_pain_0_counts_as_not_taken() -> None:
    """Its word is enough, a shell completes no more of it, and the result says what it counts as."""
    known = ("--age", "63", "--sex", "male", "--cp")
    for word in ("0", "unspecified", "unspecified; asymptomatic is 4"):
        told = Prediction.model_validate_json(run("predict", *known, word, "--json").stdout)
        assert told.missing == [name for name in FIELDS if name not in ("age", "sex")]
    shown = run("predict", *known, "0").stdout
    assert "unspecified; asymptomatic is 4 (counts as not taken)" in shown
    assert max(map(len, shown.splitlines())) <= 80
    value = record_options.MeasurementType(next(field for field in measurements() if field.name == "cp"))
    offered = value.shell_complete(click.Context(click.Command("predict")), click.Option(["--cp"]), "un")
    assert [item.value for item in offered] == ["unspecified"]


def test_flags_change_what_a_file_says(tmp_path: Path) -> None:
    """To ask what if; null is not taken."""
    file = tmp_path / "patient.json"
    file.write_text(json.dumps(EXAMPLE))
    other = run("predict", file, "--json", "--cp", "asymptomatic", "--ca", "null")
    assert other.stdout == run("predict", "--json", *as_flags(EXAMPLE | {"cp": 4, "ca": None})).stdout
    del EXAMPLE_LESS["chol"]
    file.write_text(json.dumps(EXAMPLE_LESS))
    assert run("predict", file, "--chol", "233").exit_code == 0


EXAMPLE_LESS = dict(EXAMPLE)


@given(st.sampled_from(sorted(WORDS)), st.data())
def test_a_word_or_its_beginning_is_its_code(name: str, data: st.DataObject) -> None:
    """In any case, with hyphens or spaces; a beginning that fits two words is refused."""
    field = WORDS[name]
    code, label = data.draw(st.sampled_from([*field.codes.items()]))
    typed = data.draw(st.sampled_from([label, label.upper(), label.replace(" ", "-"), label.replace("-", "_")]))
    value = record_options.MeasurementType(field)
    if label != "none":
        assert value.convert(typed, None, None) == code
    assert value.convert(str(code), None, None) == code
    start = typed[: data.draw(st.integers(1, len(typed)))]
    plain = start.lower().replace("-", " ").replace("_", " ").strip()
    others = [word for word in value.labels if word.startswith(plain) and word != plain]
    if plain and len(others) > 1 and plain not in value.labels and not plain.isdecimal():
        with pytest.raises(Exception, match="must be"):
            value.convert(start, None, None)


@pytest.mark.parametrize("word", ["None", "none", "NONE", " none "])
def test_none_is_asked_about(word: str) -> None:
    """It is the label of 0 vessels, and what Python writes where nothing was taken."""
    result = run("predict", "--age", "63", "--sex", "male", "--ca", word)
    assert result.exit_code == 2
    assert "Invalid value for '--ca': 0 or null? " in result.stderr
    value = record_options.MeasurementType(next(field for field in measurements() if field.name == "ca"))
    command = click.Command("predict")
    offered = value.shell_complete(click.Context(command), click.Option(["--ca"]), "")
    assert [item.value for item in offered if item.value == "none"] == []


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("chol", value) for value in ("98765", "nan", "inf", "plenty")),
        *(("sex", value) for value in ("x", "")),
        *(("ca", value) for value in ("1.5", "٣")),
        *(("age", "null"), ("cp", "typical angina x"), ("thal", "5"), ("oldpeak", "-5.1")),
    ],
)
def test_a_flag_that_cannot_be_names_itself_and_no_value(flag: str, value: str) -> None:
    """With what it should have been, as in the service's answers."""
    result = run("predict", "--age", "63", "--sex", "male", f"--{flag}", value)
    assert result.exit_code == 2
    assert f"Invalid value for '--{flag}': " in result.stderr
    expected = next(field.expected for field in measurements() if field.name == flag)
    assert " ".join(expected.split()) in " ".join(result.stderr.split())
    if value not in ("", "null", "x", "5", "nan", "inf"):
        assert value not in result.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps(EXAMPLE | {"chol": 98765}), "chol: Serum cholesterol must be"),
        (json.dumps({"age": 63}), "sex: Sex is missing"),
        (json.dumps(EXAMPLE | {"mrn": 7}), "mrn: Not a field of a patient record"),
        (json.dumps([EXAMPLE]), "A patient record must be an object"),
        (json.dumps(EXAMPLE)[:-1] + ', "age": 50}', "age: Age is given twice"),
        ("{", "Invalid JSON"),
        ("", "Invalid JSON"),
        (" " * 70_000, "`heart score` takes tables"),
        (json.dumps(EXAMPLE).replace("233", "NaN"), "chol: Serum cholesterol must be"),
        ("[" * 5000, "Invalid JSON"),
    ],
)
def test_a_file_that_is_no_patient_is_refused_as_the_service_would(content: str, said: str) -> None:
    """With status 3, and no value of it."""
    result = run("predict", "-", said=content)
    assert result.exit_code == 3
    assert said in result.stderr
    assert "98765" not in result.stderr


def test_what_cannot_be_asked_or_answered_is_told_in_a_line(tmp_path: Path) -> None:
    """With the status that help tells."""
    known = ("--age", "63", "--sex", "male")
    for words, status, said in (
        ((tmp_path / "absent.json",), 1, "absent.json: No such file"),
        ((*known, "--models", tmp_path), 1, "no model here"),
        ((*known, "--url", f"http://127.0.0.1:{free_port()}"), 1, "No service answers at 127.0.0.1:"),
        ((*known, "--url", "nonsense"), 2, "--url: a service's address"),
        ((*known, "--url", "http://127.0.0.1:1", "--models", tmp_path), 2, "the service has its own model"),
        ((*known, "--nonsense"), 2, "No such option"),
    ):
        result = run("predict", *words)
        assert (result.exit_code, said in result.stderr) == (status, True), result.stderr
        assert result.stdout == ""


def test_an_old_model_predicts_and_cannot_explain(tmp_path: Path) -> None:
    """Version 1 has no background patients: it says so."""
    (tmp_path / "1").symlink_to(MODELS / "1")
    known = ("--age", "63", "--sex", "male", "--models", tmp_path)
    assert run("predict", *known).exit_code == 0
    result = run("explain", *known)
    assert result.exit_code == 1
    assert "model version 1 has no background patients" in result.stderr


def test_a_key_comes_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what the service refuses has its own status."""
    monkeypatch.setenv("HEART_KEY", "s3cret")
    asked: list[bytes] = []
    body = (
        b'{"detail": "Not a valid patient record.", "errors": [{"pointer": "/age", "detail": "Too old"}], "total": 1}'
    )
    answer = b"HTTP/1.1 422 Unprocessable\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with answering(answer, asked=asked) as url:
        result = run("predict", "--age", "63", "--sex", "male", "--url", url)
    assert (result.exit_code, "/age: Too old" in result.stderr) == (3, True)
    assert b"Authorization: Bearer s3cret" in asked[0]
    monkeypatch.setenv("HEART_KEY", "two words")
    result = run("predict", "--age", "63", "--sex", "male", "--url", "http://127.0.0.1:1")
    assert (result.exit_code, "HEART_KEY contains characters" in result.stderr) == (2, True)
    assert "two words" not in result.stderr


def test_a_person_sees_words_bars_and_what_it_is_not() -> None:
    """Labels and units, the threshold, gaps; no colours where nobody sees them; ASCII where there is no more."""
    shown = run("predict", *as_flags(EXAMPLE | {"ca": None})).stdout
    for words in (
        "typical angina",
        "145 mm Hg",
        "not taken",
        "threshold 50 %",
        "Model version 3. Not a medical device.",
    ):
        assert words in shown
    assert "\x1b" not in shown
    assert shown.count("█") + shown.count("░") + shown.count("┃") == 60
    reasons = run("explain", *as_flags(EXAMPLE)).stdout
    for field in measurements():
        assert field.describe(EXAMPLE[field.name]) in reasons
    assert "What would change the result" in reasons
    assert max(map(len, reasons.splitlines())) <= 80
    plain = CliRunner(charset="ascii").invoke(heart, ["explain", *as_flags(EXAMPLE)])
    assert plain.exit_code == 0
    assert plain.stdout.isascii()
    assert "#" in plain.stdout


def test_the_picture_never_says_certain() -> None:
    """Nobody is told 0 % or 100 %."""
    from service.cli.rendering import _percent

    assert [_percent(p) for p in (0.0, 1e-9, 0.5, 0.94657, 1.0)] == ["0.1 %", "0.1 %", "50 %", "94.7 %", "99.9 %"]


def test_what_the_client_sends_is_what_was_given() -> None:
    """A record, a mapping and numbers of numpy's are the same request."""
    import numpy as np

    same = {encode_record(found) for found in (EXAMPLE, EXAMPLE | {"sex": np.int64(1), "oldpeak": np.float32(2.5)})}
    assert json.loads(max(same))["sex"] == 1
    record = PatientRecord(**EXAMPLE)
    assert PatientRecord.model_validate_json(encode_record(record)) == record
    assert not any(math.isnan(value) for value in json.loads(encode_record(EXAMPLE)).values())
