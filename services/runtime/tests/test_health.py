"""Readiness: what is down, how often a dependency is asked."""

from services.runtime.health import Health
from services.runtime.unavailable import Unavailable


class Dependency:
    """Answers or not, and counts how often it was asked."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0

    async def probe(self) -> None:
        """Answer, or say that it is away."""
        self.asked += 1
        if self.away:
            raise Unavailable("store", "it is away")


async def test_an_answer_serves_for_a_while() -> None:
    """A dependency that answered is not asked again at once; one without a time always is."""
    health, remote, local = Health(), Dependency(), Dependency()
    health.add("remote", remote.probe, fresh_s=60)
    health.add("local", local.probe)
    for _ in range(3):
        assert await health.down() == {}
    assert (remote.asked, local.asked) == (1, 3)


async def test_who_does_not_answer_is_named_and_asked_again() -> None:
    """A failure is never remembered: readiness comes back with the first answer."""
    health, remote = Health(), Dependency()
    remote.away = True
    health.add("remote", remote.probe, fresh_s=60)
    assert "away" in (await health.down())["remote"]
    remote.away = False
    assert await health.down() == {}
    assert remote.asked == 2


async def test_a_process_that_stops_is_not_ready() -> None:
    """Whatever answers, nothing new is to come here."""
    health = Health()
    health.stopping = True
    assert await health.down() == {"process": "stopping"}
