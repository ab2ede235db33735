"""API keys: known by their hash, asked of the user service, remembered for a moment."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from services.contracts.people import ApiKeyGrant
from services.contracts.problems import Problem
from services.runtime.tasks import note_failure
from services.runtime.unavailable import Unavailable

FRESH_S = 1.0
"""How long an answer serves; the revocation of a key waits as long before it is answered."""
AHEAD_S = 0.5
"""From this age of an answer on the next one is asked for, so that no request has to wait."""
STALE_S = 30.0
"""How long the last answer serves while the user service is away; then nothing is let through."""
REMEMBERED_MAX = 10_000
KEY_LENGTH_MAX = 256

Ask = Callable[[str], Awaitable[ApiKeyGrant | None]]


class Holder(NamedTuple):
    """Who presented a key: its id as every request passes it on, and what it allows."""

    key_id: str
    scopes: tuple[str, ...]


class _Known(NamedTuple):
    holder: Holder | None
    at: float


class Keys:
    """Finds out what a presented key may do; fails closed."""

    def __init__(self, ask: Ask, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Holder | None]] = {}

    async def holder(self, key: str) -> Holder:
        """Return who holds a key; raise the Problem when it is nobody's, or Unavailable."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        known = self._known.get(digest)
        if known is not None and (age_s := self._clock() - known.at) < FRESH_S:
            if age_s >= AHEAD_S:
                self._asked(digest)
            return _or_refuse(known.holder)
        try:
            return _or_refuse(await asyncio.shield(self._asked(digest)))
        except Unavailable:
            if known is None or self._clock() - known.at >= STALE_S:
                raise
            return _or_refuse(known.holder)

    def _asked(self, digest: str) -> asyncio.Task[Holder | None]:
        """Return the question to the user service that requests with the same key share."""
        asking = self._asking.get(digest)
        if asking is None:
            asking = asyncio.create_task(self._look_up(digest), name="api-key")
            self._asking[digest] = asking
            asking.add_done_callback(lambda _: self._asking.pop(digest, None))
            asking.add_done_callback(note_failure)
        return asking

    async def _look_up(self, digest: str) -> Holder | None:
        asked_at = self._clock()
        grant = await self._ask(digest)
        holder = None if grant is None else Holder(str(grant.key_id), grant.scopes)
        self._known[digest] = _Known(holder, asked_at)
        self._known.move_to_end(digest)
        while len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        return holder


def presented(request: web.Request) -> str:
    """Return the key of a request; raise the Problem when it has none."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    key = value.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")
    if not key:
        raise Problem("missing_api_key", "Send the header Authorization: Bearer <API key>.")
    if len(key) > KEY_LENGTH_MAX:
        raise Problem("invalid_api_key")
    return key


def _or_refuse(holder: Holder | None) -> Holder:
    if holder is None:
        raise Problem("invalid_api_key")
    return holder
