"""People as the user service knows them, remembered for a little while."""

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar
from uuid import UUID

from services.contracts.people import ContactQuery, People, PeopleQuery, Person
from services.message.cache import Cache
from services.runtime.batches import Batches
from services.runtime.unavailable import Unavailable

USER = "user"
PEOPLE_MAX = 20_000
ASKED_MAX = 500
FRESH_S = 30.0
AHEAD_S, GATHER_S = 20.0, 0.25
"""From this age of an address on it is asked for again, with others of that age, so that nobody who
sends has to wait."""
STALE_S = 60.0
"""How long an address serves that nobody could confirm: the router resolves it anew anyway."""
T = TypeVar("T")


class Asks(Protocol):
    """Puts a question to a sibling service."""

    async def ask(
        self, service: str, path: str, question: object, kind: type[T], *, timeout_s: float = ...
    ) -> T | None:
        """Return the answer, None when there is no such thing; raise Unavailable."""


class KnownPeople:
    """Asks the user service for people; addresses that were seen serve again for a while."""

    def __init__(self, siblings: Asks) -> None:
        self._siblings = siblings
        self._seen: Cache[UUID, tuple[Person, float]] = Cache(PEOPLE_MAX)
        self._asked: Batches[UUID, Person | None] = Batches(self._ask, ASKED_MAX)
        self._aging: set[UUID] = set()
        self._refreshing: asyncio.Task[None] | None = None

    async def find(self, user_ids: Sequence[UUID]) -> dict[UUID, Person]:
        """Return those who exist, as the user service knows them now."""
        answers = await asyncio.gather(*map(self._asked.add, user_ids))
        found = {person.user_id: person for person in answers if person is not None}
        seen_at = time.monotonic()
        for user_id, person in found.items():
            self._seen.put(user_id, (person, seen_at))
        return found

    async def reachable(self, user_ids: Collection[UUID], channel: str) -> dict[UUID, Person]:
        """Return people with what is known of their addresses, at most a little old.

        Somebody without an address on the channel is always asked for: it may be new. While
        the user service is away, older knowledge serves if it has every address.
        """
        fresh = self._remembered(user_ids, channel, FRESH_S)
        missing = [user_id for user_id in user_ids if user_id not in fresh]
        if not missing:
            self._refresh(user_ids)
            return fresh
        try:
            return fresh | await self.find(missing)
        except Unavailable:
            stale = self._remembered(user_ids, channel, STALE_S)
            if len(stale) < len(user_ids):
                raise
            return stale

    async def contact(self, question: ContactQuery) -> Person:
        """Return the customer behind an inbound address, who is created when unknown."""
        person = await self._siblings.ask(USER, "/internal/contacts", question, Person)
        if person is None:
            raise Unavailable(USER, "it did not answer for a contact")
        return person

    async def _ask(self, user_ids: Sequence[UUID]) -> list[Person | None]:
        question = PeopleQuery(list(set(user_ids)))
        answer = await self._siblings.ask(USER, "/internal/people", question, People)
        found = {person.user_id: person for person in answer.items} if answer else {}
        return [found.get(user_id) for user_id in user_ids]

    def _refresh(self, user_ids: Iterable[UUID]) -> None:
        """See to it that addresses which are about to be too old are asked for again."""
        since = time.monotonic() - AHEAD_S
        for user_id in user_ids:
            seen = self._seen.get(user_id)
            if seen is not None and seen[1] < since:
                self._aging.add(user_id)
        if self._aging and self._refreshing is None:
            self._refreshing = asyncio.create_task(self._ask_again(), name="people-again")

    async def _ask_again(self) -> None:
        try:
            await asyncio.sleep(GATHER_S)
            aging, self._aging = self._aging, set()
            with suppress(Unavailable):  # what is known serves until it is too old
                await self.find(list(aging))
        finally:
            self._refreshing = None

    def _remembered(
        self, user_ids: Collection[UUID], channel: str, age_max_s: float
    ) -> dict[UUID, Person]:
        since = time.monotonic() - age_max_s
        seen: dict[UUID, Any] = {user_id: self._seen.get(user_id) for user_id in user_ids}
        return {
            user_id: entry[0]
            for user_id, entry in seen.items()
            if entry is not None and entry[1] >= since and entry[0].address_on(channel) is not None
        }
