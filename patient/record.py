"""The patient record: 13 fields, their meaning, units, codes and ranges.

Everything else that knows the fields (the encoding, the OpenAPI schema, the CSV header, the error messages) derives it
from `PatientRecord.model_fields`, so a new field is added here only.

Source of fields and codes: UCI Heart Disease, processed Cleveland data, doi 10.24432/C52P4X.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo


def _to_int(value: object) -> object:
    """Convert 1.0 to 1: JSON has one number type, and pandas writes a column with a missing cell as floats."""
    if type(value) is bool:
        raise ValueError("a boolean is no code")  # to Python, True == 1
    return int(value) if type(value) is float and value.is_integer() else value


Range = tuple[float, float, float]  # minimum, maximum, step
_CODE = BeforeValidator(_to_int)


def _number(title: str, description: str, low: float, high: float, unit: str, modifiable: Range | None = None) -> Any:
    """`modifiable`: the value may differ on another day, plausibly within this range."""
    extra: dict[str, Any] = {"unit": unit, "modifiable": modifiable is not None}
    if modifiable:
        extra["plausible"] = dict(zip(("minimum", "maximum", "step"), modifiable, strict=True))
    return Field(title=title, description=description, ge=low, le=high, json_schema_extra=extra)


def _code(
    title: str,
    description: str,
    labels: tuple[str, ...],
    modifiable: tuple[int, ...] = (),
    unspecified: int | None = None,
) -> Any:
    """Return a field of codes.

    labels: the meaning of the Literal's codes, in order; modifiable: the codes that another day may find; unspecified:
    the code that says no more than null does
    """
    extra: dict[str, Any] = {"labels": list(labels), "modifiable": bool(modifiable)}
    if unspecified is not None:
        extra["unspecified"] = unspecified
    if modifiable:
        extra["plausible"] = modifiable
    return Field(title=title, description=description, json_schema_extra=extra)


# The first record of the data set: the worked example of the schema, the README and the warm-up.
EXAMPLE: dict[str, Any] = dict(
    age=63, sex=1, cp=1, trestbps=145, chol=233, fbs=1, restecg=2, thalach=150, exang=0, oldpeak=2.3, slope=3, ca=0,
    thal=6,
)  # fmt: skip


class PatientRecord(BaseModel):
    """One patient's 13 measurements. A measurement that was not taken is null; its key is required.

    The ranges contain every record of the data set, and exclude values that no living adult can have.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # a traceback in a log must not show a patient's values
        json_schema_extra={"examples": [EXAMPLE]},
    )

    age: Annotated[float, _number("Age", "Age of the patient", 18, 120, "years")]
    sex: Annotated[Literal[0, 1], _CODE, _code("Sex", "Sex of the patient", ("female", "male"))]
    cp: Annotated[
        Literal[0, 1, 2, 3, 4] | None,
        _CODE,
        _code(
            "Chest pain type",
            "Kind of chest pain. 0 counts as not taken, because it never occurs in the data; asymptomatic is 4",
            (
                "unspecified; asymptomatic is 4",
                "typical angina",
                "atypical angina",
                "non-anginal pain",
                "asymptomatic",
            ),
            modifiable=(1, 2, 3, 4),
            unspecified=0,
        ),
    ]
    trestbps: Annotated[
        float | None,
        _number("Resting blood pressure", "Systolic pressure at rest, on admission", 50, 300, "mm Hg", (90, 200, 1)),
    ]
    chol: Annotated[
        float | None,
        _number("Serum cholesterol", "Total cholesterol in serum", 50, 1000, "mg/dl", (120, 570, 1)),
    ]
    fbs: Annotated[
        Literal[0, 1] | None,
        _CODE,
        _code("Fasting blood sugar", "Whether it is above 120 mg/dl", ("at most 120 mg/dl", "above 120 mg/dl"), (0, 1)),
    ]
    restecg: Annotated[
        Literal[0, 1, 2] | None,
        _CODE,
        _code(
            "Resting ECG",
            "Finding of the electrocardiogram at rest",
            ("normal", "ST-T abnormality", "left ventricular hypertrophy"),
        ),
    ]
    thalach: Annotated[
        float | None,
        _number(
            "Maximum heart rate", "Highest heart rate achieved in the exercise test", 40, 250, "beats/min", (70, 205, 1)
        ),
    ]
    exang: Annotated[
        Literal[0, 1] | None,
        _CODE,
        _code("Exercise induced angina", "Whether exercise brought on angina", ("no", "yes"), (0, 1)),
    ]
    oldpeak: Annotated[
        float | None,
        _number("ST depression", "ST depression induced by exercise relative to rest", -5, 10, "mm", (0, 6.5, 0.1)),
    ]
    slope: Annotated[
        Literal[1, 2, 3] | None,
        _CODE,
        _code("ST slope", "Slope of the ST segment at peak exercise", ("up", "flat", "down"), (1, 2, 3)),
    ]
    ca: Annotated[
        Literal[0, 1, 2, 3] | None,
        _CODE,
        _code("Number of major vessels", "Vessels coloured by fluoroscopy", ("none", "one", "two", "three")),
    ]
    thal: Annotated[
        Literal[3, 6, 7] | None,
        _CODE,
        _code("Thallium scan", "Finding of the thallium stress scan", ("normal", "fixed defect", "reversible defect")),
    ]

    def missing(self) -> list[str]:
        """Return the fields that were not taken, in order."""
        return missing(self.__dict__.values())


FIELDS: tuple[str, ...] = tuple(PatientRecord.model_fields)


def missing(values: Iterable[float | None]) -> list[str]:
    """Return the fields that were not taken, in order: of the 13 values of a record, the null and unspecified ones."""
    return [
        field.name
        for field, value in zip(measurements(), values, strict=True)
        if value is None or value == field.unspecified
    ]


@dataclass(frozen=True, slots=True)
class Measurement:
    """The definition of one field: `low` to `high` (inclusive, in `unit`), and for a category its `codes`.

    unspecified: the code that counts as not taken, as null does; None if there is none
    modifiable: whether another day may find another value
    plausible:  the values that it may find, in steps of the measurement's resolution; if not modifiable, all codes of a
                category and no values of a number
    """

    name: str
    title: str
    unit: str
    low: float
    high: float
    codes: Mapping[int, str]
    nullable: bool
    unspecified: int | None
    modifiable: bool
    plausible: tuple[float, ...]

    def describe(self, value: float | None) -> str:
        """Format a valid value for people: "Maximum heart rate 150 beats/min", "Thallium scan: normal"."""
        if value is None:
            return f"{self.title} not taken"
        return f"{self.title}: {self.codes[int(value)]}" if self.codes else f"{self.title} {value:g} {self.unit}"

    @property
    def expected(self) -> str:
        """Describe a valid value, for all error messages: they never repeat the value that was sent."""
        return f"{self.title} must be {self.valid_values}"

    @property
    def valid_values(self) -> str:
        if self.codes:
            *rest, last = (f"{code} ({label})" for code, label in self.codes.items())
            values = f"{', '.join(rest)} or {last}"
        else:
            values = f"a number from {self.low:g} to {self.high:g} {self.unit}"
        return f"{values}{'; null if it was not taken' if self.nullable else ''}"


@cache
def measurements() -> tuple[Measurement, ...]:
    """Return the 13 fields in the order of the record and of the model's input."""
    return tuple(_measurement(name, field) for name, field in PatientRecord.model_fields.items())


def _measurement(name: str, field: FieldInfo) -> Measurement:
    options = get_args(field.annotation)  # of `Literal[...] | None`, of `float | None`, or of a bare `Literal[...]`
    nullable = type(None) in options
    codes = get_args(options[0]) if nullable else options
    extra = cast(dict[str, Any], field.json_schema_extra)
    bounds = [getattr(bound, side) for bound in field.metadata for side in ("ge", "le") if hasattr(bound, side)]
    low, *_, high = codes or bounds
    return Measurement(
        name=name,
        title=cast(str, field.title),
        unit=extra.get("unit", ""),
        low=low,
        high=high,
        codes=dict(zip(codes, extra.get("labels", ()), strict=True)),
        nullable=nullable,
        unspecified=extra.get("unspecified"),
        modifiable=extra["modifiable"],
        plausible=_values(extra.get("plausible", codes)),
    )


def _values(plausible: Mapping[str, float] | tuple[int, ...]) -> tuple[float, ...]:
    """Expand a range to its values; codes stay as they are."""
    if isinstance(plausible, tuple):
        return plausible
    low, high, step = plausible.values()
    return tuple(round(low + i * step, 6) for i in range(round((high - low) / step) + 1))
