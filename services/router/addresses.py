"""Where people are reached: asked of the user service in batches, kept for a few seconds."""

import asyncio
from collections.abc import Iterable, Mapping
from uuid import UUID

from services.contracts.people import People, PeopleQuery, Person
from services.runtime.http.client import Siblings
from services.runtime.unavailable import Unavailable

CACHED_MAX = 50_000
ASKED_MAX = 500


class Addresses:
    """A cache of people before the user service."""

    def __init__(self, siblings: Siblings, cache_s: float) -> None:
        self._siblings = siblings
        self._cache_s = cache_s
        self._known: dict[UUID, tuple[float, Person]] = {}

    async def of(self, user_ids: Iterable[UUID]) -> Mapping[UUID, Person]:
        """Return the people among these ids; raise Unavailable when they cannot be asked for.

        A person without any address is never kept: they may be given one at any moment.
        """
        now = asyncio.get_running_loop().time()
        wanted = set(user_ids)
        found = {
            user_id: known[1]
            for user_id in wanted
            if (known := self._known.get(user_id)) is not None and known[0] > now
        }
        missing = list(wanted - found.keys())
        for start in range(0, len(missing), ASKED_MAX):
            found |= await self._ask(missing[start : start + ASKED_MAX], now)
        return found

    async def _ask(self, user_ids: list[UUID], now: float) -> dict[UUID, Person]:
        people = await self._siblings.ask("user", "/internal/people", PeopleQuery(user_ids), People)
        if people is None:
            raise Unavailable("user", "it does not know the question")
        found = {person.user_id: person for person in people.items}
        if len(self._known) + len(found) > CACHED_MAX:
            self._known.clear()
        expires = now + self._cache_s
        self._known |= {key: (expires, person) for key, person in found.items() if person.addresses}
        return found
