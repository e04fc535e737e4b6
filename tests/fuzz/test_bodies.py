"""Damaged tables never break the service: a short run of `make fuzz`."""

from tests.fuzz.run import fuzz


def test_damaged_bodies_get_2xx_or_4xx_and_do_not_kill_the_service() -> None:
    """For every format, compression and content type. A failure shows the seed."""
    found = fuzz("damage", 1500)
    assert not found.faults
    assert found.statuses[200] > 50  # there is something to damage
    assert found.descriptors <= 5
