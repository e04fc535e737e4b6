"""Tables with false lengths, counts and types never break the service: a short run of `make fuzz`."""

import random

import pytest

from tests.fuzz import structure
from tests.fuzz.run import fuzz


def test_false_structures_get_2xx_or_4xx_and_do_not_kill_the_service() -> None:
    """For every format, compression and framing. A failure shows the seed."""
    found = fuzz("structure", 300)
    assert not found.faults
    assert found.statuses[200] > 30  # there is something to change
    assert found.descriptors <= 5


@pytest.mark.parametrize("kind", structure.MAKERS)
def test_a_seed_makes_the_same_body(kind: str) -> None:
    make = structure.MAKERS[kind]
    assert make(random.Random(7), True) == make(random.Random(7), True)
