"""Choosing among the instances of a service."""

import pytest

from services.runtime.discovery import EMPTY_GRACE_S, Upstream
from services.runtime.unavailable import Unavailable


def upstream(*ports: int) -> Upstream:
    """Return a service with instances on these ports."""
    found = Upstream("service")
    found.update({("127.0.0.1", port) for port in ports}, now=0.0)
    return found


def test_the_less_busy_instance_is_chosen() -> None:
    """Of two instances the one with fewer requests in flight takes the next."""
    found = upstream(1, 2)
    found.endpoints[0].in_flight = 5
    assert {found.choose(0.0).port for _ in range(20)} == {2}


def test_an_ejected_instance_rests_while_another_stands() -> None:
    """An instance that refused is left alone for a while, unless it is the only one."""
    found = upstream(1, 2)
    found.endpoints[1].ejected_until = 10.0
    assert {found.choose(5.0).port for _ in range(20)} == {1}
    found.endpoints[0].ejected_until = 10.0
    assert found.choose(5.0).port in {1, 2}


def test_the_last_known_instances_serve_for_a_grace() -> None:
    """When Consul says that none passes, the last ones serve for five seconds and no longer."""
    found = upstream(1)
    found.update(set(), now=1.0)
    assert found.choose(1.0 + EMPTY_GRACE_S).port == 1
    with pytest.raises(Unavailable):
        found.choose(1.1 + EMPTY_GRACE_S)
    found.update({("127.0.0.1", 9)}, now=20.0)
    assert found.choose(20.0).port == 9


def test_what_is_known_of_an_instance_survives_an_update() -> None:
    """An instance that stays keeps its count of requests in flight."""
    found = upstream(1, 2)
    found.endpoints[0].in_flight = 3
    found.update({("127.0.0.1", 1), ("127.0.0.1", 3)}, now=1.0)
    assert [(end.port, end.in_flight) for end in found.endpoints] == [(1, 3), (3, 0)]


def test_a_key_has_its_instance() -> None:
    """All who ask with a key get the same instance, keys are spread, and another one steps in."""
    found, others = upstream(1, 2, 3), upstream(1, 2, 3)
    keys = [f"conversation {number}" for number in range(300)]
    chosen = [found.choose(0.0, key=key).port for key in keys]
    assert chosen == [others.choose(0.0, key=key).port for key in keys]
    assert all(60 < chosen.count(port) < 140 for port in (1, 2, 3))
    first = found.choose(0.0, key="a")
    second = found.choose(0.0, avoid=first, key="a")
    assert second is not first
    first.ejected_until = 1.0
    assert found.choose(0.5, key="a") is second
