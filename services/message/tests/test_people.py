"""Who is remembered for how long."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.contracts.people import Address, Kind, People, PeopleQuery, Person
from services.message import people as people_module
from services.message.people import AHEAD_S, FRESH_S, STALE_S, KnownPeople
from services.runtime.unavailable import Unavailable

CHANNEL = "WHATSAPP"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time_s = 1000.0

    def monotonic(self) -> float:
        """Return the time that was set."""
        return self.time_s


class Users:
    """Answers for people; may be away."""

    def __init__(self) -> None:
        self.people: dict[UUID, Person] = {}
        self.away = False
        self.asked = 0

    def add(self, *addresses: Address) -> UUID:
        """Create a customer."""
        user_id = uuid4()
        self.people[user_id] = Person(
            user_id=user_id, kind=Kind.CUSTOMER, name="", addresses=addresses
        )
        return user_id

    async def ask(
        self, service: str, path: str, question: Any, kind: type[Any], *, timeout_s: float = 2.0
    ) -> Any:
        """Answer a question about people."""
        assert (service, path, kind) == ("user", "/internal/people", People)
        assert timeout_s > 0
        assert isinstance(question, PeopleQuery)
        self.asked += 1
        if self.away:
            raise Unavailable("user")
        return People([self.people[one] for one in question.user_ids if one in self.people])


@pytest.fixture
def users() -> Users:
    """A user service in memory."""
    return Users()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the module."""
    clock = Clock()
    monkeypatch.setattr(people_module, "time", clock)
    return clock


ADDRESS = Address(channel=CHANNEL, address="1")


async def test_a_reachable_person_is_asked_for_once_in_a_while(users: Users, clock: Clock) -> None:
    """Within a few seconds the answer of before serves."""
    known, anna = KnownPeople(users), users.add(ADDRESS)
    for _ in range(3):
        assert anna in await known.reachable([anna], CHANNEL)
    assert users.asked == 1
    clock.time_s += FRESH_S + 0.1
    await known.reachable([anna], CHANNEL)
    assert users.asked == 2


async def test_those_asked_for_at_once_are_asked_for_together(users: Users, clock: Clock) -> None:
    """Each asker gets an answer of their own out of one question; a stranger is in none."""
    known, stranger = KnownPeople(users), uuid4()
    wanted = [*(users.add(ADDRESS) for _ in range(20)), stranger]
    found = await asyncio.gather(*(known.reachable([one], CHANNEL) for one in wanted))
    assert [set(people) for people in found] == [*({one} for one in wanted[:-1]), set()]
    assert users.asked == 1
    assert clock.time_s == 1000.0


async def test_who_is_written_to_is_asked_for_again_ahead_of_time(
    users: Users, clock: Clock
) -> None:
    """Nobody waits for it, and one question serves all whose time comes."""
    known, wanted = KnownPeople(users), [users.add(ADDRESS) for _ in range(20)]
    await known.reachable(wanted, CHANNEL)
    clock.time_s += AHEAD_S + 1
    for one in wanted:
        assert one in await known.reachable([one], CHANNEL)
    assert users.asked == 1
    async with asyncio.timeout(5):
        while users.asked == 1:
            await asyncio.sleep(0.01)
    clock.time_s += FRESH_S - 1
    users.away = True
    assert len(await known.reachable(wanted, CHANNEL)) == len(wanted)
    assert users.asked == 2


async def test_a_missing_address_is_never_remembered(users: Users, clock: Clock) -> None:
    """Somebody whose identity was just linked is reached at once."""
    known, anna = KnownPeople(users), users.add()
    assert (await known.reachable([anna], CHANNEL))[anna].address_on(CHANNEL) is None
    users.people[anna] = Person(user_id=anna, kind=Kind.CUSTOMER, name="", addresses=(ADDRESS,))
    assert (await known.reachable([anna], CHANNEL))[anna].address_on(CHANNEL) == ADDRESS
    assert clock.time_s == 1000.0


async def test_old_knowledge_serves_while_the_user_service_is_away(
    users: Users, clock: Clock
) -> None:
    """For a minute an outage is not noticed by those who were reachable before it."""
    known, anna = KnownPeople(users), users.add(ADDRESS)
    await known.reachable([anna], CHANNEL)
    users.away = True
    clock.time_s += STALE_S - 1
    assert anna in await known.reachable([anna], CHANNEL)
    clock.time_s += 2
    with pytest.raises(Unavailable):
        await known.reachable([anna], CHANNEL)


async def test_a_stranger_needs_the_user_service(users: Users, clock: Clock) -> None:
    """Without an answer nothing is claimed of somebody never seen."""
    known, anna, bert = KnownPeople(users), users.add(ADDRESS), users.add(ADDRESS)
    await known.reachable([anna], CHANNEL)
    users.away = True
    clock.time_s += FRESH_S + 1
    with pytest.raises(Unavailable):
        await known.reachable([anna, bert], CHANNEL)
