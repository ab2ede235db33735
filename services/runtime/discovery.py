"""Finds the instances of other services through Consul, and chooses among them."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.runtime.consul import Consul
from services.runtime.unavailable import Unavailable

EJECT_S = 3.0
_HASHES = 2**64
FIRST_ANSWER_S = 2.0
AGAIN_S = 0.2
EMPTY_GRACE_S = 5.0
"""How long the last known instances serve after Consul says that none passes."""


@dataclass(eq=False, slots=True)
class Endpoint:
    """One instance: where it listens and how much it is busy with for us."""

    host: str
    port: int
    in_flight: int = 0
    ejected_until: float = 0.0
    address: str = field(init=False)
    """Host and port as they stand in a URL."""
    weight: int = field(init=False)
    """By what keys are spread: known of an instance to everybody who asks."""

    def __post_init__(self) -> None:
        """Derive what every choice needs."""
        self.address = f"{self.host}:{self.port}"
        self.weight = _hash(self.address) | 1


@dataclass(eq=False)
class Upstream:
    """The instances of one service that passed their checks when last seen."""

    name: str
    endpoints: tuple[Endpoint, ...] = ()
    known: asyncio.Event = field(default_factory=asyncio.Event)
    _emptied_at: float | None = None

    def update(self, addresses: set[tuple[str, int]], now: float) -> None:
        """Swap the instances, keeping what is known of those that stay."""
        if not addresses and self.endpoints:
            self._emptied_at = self._emptied_at or now
            return
        self._emptied_at = None
        staying = {(end.host, end.port): end for end in self.endpoints}
        self.endpoints = tuple(
            staying.get(address, Endpoint(*address)) for address in sorted(addresses)
        )
        if self.endpoints:
            self.known.set()

    def choose(self, now: float, avoid: Endpoint | None = None, key: str | None = None) -> Endpoint:
        """Return the less busy of two instances drawn; raise Unavailable when there is none.

        With a key it is the same one for everybody who asks, as long as the instances stay.
        """
        if self._emptied_at is not None and now > self._emptied_at + EMPTY_GRACE_S:
            self.endpoints = ()
        standing = [end for end in self.endpoints if end is not avoid] or list(self.endpoints)
        if not standing:
            raise Unavailable(self.name, "no instance passes its checks")
        pool = [end for end in standing if end.ejected_until <= now] or standing
        if key is not None:
            # The highest product is as good as drawn, and costs a hash for the key only.
            number = _hash(key)
            return max(pool, key=lambda end: number * end.weight % _HASHES)
        drawn = random.sample(pool, min(2, len(pool)))
        return min(drawn, key=lambda end: end.in_flight)


@dataclass(frozen=True, slots=True)
class Instance:
    """One registered instance of a service, and whether all its checks pass."""

    host: str
    port: int
    passing: bool


class Spawn(Protocol):
    """Starts a task that lives as long as the process."""

    def __call__(self, name: str, work: Coroutine[Any, Any, None], /) -> None:
        """Start and own it."""


class Discovery:
    """One watcher for each service that somebody asked for."""

    def __init__(self, consul: Consul, spawn: Spawn) -> None:
        self._consul = consul
        self._spawn = spawn
        self._upstreams: dict[str, Upstream] = {}

    def upstream(self, name: str) -> Upstream:
        """Return the instances of a service, which is watched from the first call on."""
        if name not in self._upstreams:
            self._upstreams[name] = Upstream(name)
            self._spawn(f"watch-{name}", self._watch(self._upstreams[name]))
        return self._upstreams[name]

    async def known(self, name: str) -> Upstream:
        """Return the instances of a service; asked for the first time, wait for Consul."""
        upstream = self.upstream(name)
        if not upstream.known.is_set():
            try:
                async with asyncio.timeout(FIRST_ANSWER_S):
                    await upstream.known.wait()
            except TimeoutError:
                raise Unavailable(name, "no instance passes its checks") from None
        return upstream

    async def address(self, name: str) -> str:
        """Return host:port of an instance, waiting until there is one."""
        upstream = self.upstream(name)
        await upstream.known.wait()
        while True:
            try:
                return upstream.choose(asyncio.get_running_loop().time()).address
            except Unavailable:
                await asyncio.sleep(AGAIN_S)

    async def instances(self, name: str) -> AsyncIterator[list[Instance]]:
        """Yield all instances of a service, passing or not, now and at every change."""
        async for entries in self._consul.watch(f"/v1/health/service/{name}", {"stale": ""}):
            yield [
                Instance(*_address(entry), all(c["Status"] == "passing" for c in entry["Checks"]))
                for entry in entries
            ]

    async def _watch(self, upstream: Upstream) -> None:
        answers = self._consul.watch(
            f"/v1/health/service/{upstream.name}", {"passing": "true", "stale": ""}
        )
        async for entries in answers:
            found = {_address(entry) for entry in entries}
            upstream.update(found, asyncio.get_running_loop().time())


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _address(entry: dict[str, Any]) -> tuple[str, int]:
    return entry["Service"]["Address"] or entry["Node"]["Address"], entry["Service"]["Port"]
