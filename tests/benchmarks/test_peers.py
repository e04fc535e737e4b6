"""What the peers are given is what our service is held to."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from pydantic import ValidationError

from benchmarks.peers.heart import Patient
from benchmarks.peers.tutorial_model import cut
from benchmarks.serving.patients import cleveland, untaken
from patient.artefact import FILE, versions
from patient.encoding import encode
from patient.record import EXAMPLE, PatientRecord, measurements
from tests.conftest import MODELS


def test_peers_check_the_fields_of_the_record() -> None:
    """The same names in the same order, the same ranges and codes, and null where the record takes it."""
    assert [*Patient.model_fields] == [*PatientRecord.model_fields]
    for field in measurements():
        absent: list[object] = [None]
        inside: list[object] = [*field.codes] or [field.low, field.high]
        outside = [field.low - 1, field.high + 1, "x"]
        for value in [*inside, *(absent if field.nullable else [])]:
            assert Patient.model_validate(EXAMPLE | {field.name: value})
        for value in [*outside, *([] if field.nullable else absent)]:
            with pytest.raises(ValidationError):
                Patient.model_validate(EXAMPLE | {field.name: value})


def test_the_bodies_are_valid_records() -> None:
    """All 303, six of which lack a measurement, and one that lacks all it may."""
    patients = cleveland()
    assert len(patients) == 303
    assert sum(None in patient.values() for patient in patients) == 6
    for patient in [*patients, untaken(patients[0])]:
        assert PatientRecord.model_validate(patient)


def test_the_tutorials_graph_answers_as_the_whole_model_does() -> None:
    """Cut behind its encoding, with the encoding done outside."""
    path = MODELS / str(versions(MODELS)[-1]) / FILE
    network, scales = cut(onnx.load(path))
    rows = np.array([list(patient.values()) for patient in cleveland()], np.float32)
    mean, scale = (np.array(values, np.float32) for values in zip(*scales.values(), strict=True))
    whole = ort.InferenceSession(path).run(None, {"patient": rows})[0]
    encoded = encode(rows, mean, np.float32(1) / scale)
    part = ort.InferenceSession(network.SerializeToString()).run(None, {"encoded": encoded})[0]
    np.testing.assert_allclose(part, whole, atol=1e-6)
