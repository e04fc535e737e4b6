"""A sieve in front of Pydantic, several times as fast: what it lets through is certainly valid.

Pydantic stays the law: what msgspec does not let through goes to PatientRecord for the verdict and the words. Tests
hold that the sieve changes neither.
"""

from typing import Annotated, Any, Literal

import msgspec

from patient.record import Measurement, measurements


def _strictly(field: Measurement) -> Any:
    value: Any = Annotated[float, msgspec.Meta(ge=field.low, le=field.high)]
    if field.codes:
        value = Literal[tuple(field.codes)]
    return value | None if field.nullable else value


def _struct(name: str, fields: list[tuple[str, Any]]) -> Any:
    return msgspec.defstruct(name, fields, forbid_unknown_fields=True, gc=False)


# One record, all of it checked. A code written 1.0 does not pass, and Pydantic takes it.
RECORD = msgspec.json.Decoder(_struct("Record", [(field.name, _strictly(field)) for field in measurements()]))

# Many records of numbers and nulls: patient.table.refused checks their ranges and codes, column by column.
NUMBERS = msgspec.json.Decoder(list[_struct("Numbers", [(field.name, float | None) for field in measurements()])])  # type: ignore[misc]
