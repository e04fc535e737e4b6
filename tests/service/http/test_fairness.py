"""One client may hold all places while it is alone, and leaves some to others."""

from contextlib import ExitStack
from typing import Any

import pytest

from service.http import fairness
from service.http.fairness import Places, client_of
from service.http.problems import Problem
from service.observe.metrics import OVERLOADS, STREAMS, Metrics

PROXY, OTHER, THIRD = "10.0.0.1", "10.0.0.2", "10.0.0.3"


class Held:
    """Places that clients hold, and a clock."""

    def __init__(self, total: int) -> None:
        self.metrics, self.now = Metrics(), 1000.0
        self.places = Places(total, "Too many.", "tables in progress", self.metrics, "streams")
        self.stacks: dict[str, list[ExitStack]] = {}

    def take(self, client: str) -> str | None:
        """Take a place, or return why there is none."""
        stack = ExitStack()
        try:
            stack.enter_context(self.places.place(client))
        except Problem as problem:
            return problem.detail
        self.stacks.setdefault(client, []).append(stack)
        return None

    def leave(self, client: str) -> None:
        self.stacks[client].pop().close()

    def fill(self, client: str) -> int:
        """How many more places a client can take."""
        number = 0
        while self.take(client) is None:
            number += 1
        return number


@pytest.fixture
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held(getattr(request, "param", 5))
    monkeypatch.setattr(fairness, "monotonic", lambda: held.now)
    return held


@pytest.mark.parametrize("held", [1, 2, 5, 64], indirect=True)
def test_the_only_client_takes_all_and_the_next_one_more(held: Held) -> None:
    total = held.places.total
    assert held.fill(PROXY) == total
    assert held.take(PROXY) == "Too many."
    assert held.take(OTHER) is None
    assert held.take(THIRD) == "Too many."
    assert held.metrics.snapshot().total(STREAMS) == total + 1
    assert held.metrics.snapshot().total(OVERLOADS) == 3


def test_while_another_client_asks_each_has_half(held: Held) -> None:
    held.fill(PROXY)
    held.take(OTHER)
    held.leave(PROXY)
    detail = "This client already has 4 tables in progress: at most 3 while other clients send requests."
    assert held.take(PROXY) == detail
    held.leave(PROXY)
    held.leave(PROXY)
    assert held.fill(PROXY) == 1
    assert held.fill(OTHER) == 1
    assert held.take(THIRD) is None


def test_after_a_minute_alone_a_client_has_all_again(held: Held) -> None:
    """Requests of its own do not prolong it, and it asks often."""
    held.take(OTHER)
    held.leave(OTHER)
    assert held.fill(PROXY) == 3
    for _ in range(6):
        held.now += 10
        assert held.fill(PROXY) == 0
    held.now += 1
    assert held.fill(PROXY) == 2


def test_what_is_given_back_leaves_nothing_behind(held: Held) -> None:
    """However many clients there were."""
    for number in range(100):
        client = f"10.0.1.{number}"
        held.take(client)
        held.leave(client)
    assert not held.places.held
    assert held.places.taken == 0


@pytest.mark.parametrize(
    ("scope", "client"),
    [
        ({"client": ("10.0.0.1", 1)}, "10.0.0.1"),
        ({"client": ("10.0.0.1", 1), "key": "ward-7"}, "ward-7"),
        ({"client": ("::ffff:10.0.0.1", 1)}, "10.0.0.1"),
        ({"client": ("2001:db8:1:2::3", 1)}, "2001:0db8:0001:0002"),
        ({"client": ("2001:db8:1:2:ffff::", 1)}, "2001:0db8:0001:0002"),
        ({"client": ("fe80::1%eth0", 1)}, "fe80:0000:0000:0000"),
        ({"client": None}, ""),
        ({}, ""),
    ],
)
def test_a_client_is_a_key_or_an_address(scope: dict[str, Any], client: str) -> None:
    assert client_of(scope) == client
