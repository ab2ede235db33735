"""HTTP to a provider under a lease: no byte is written after the claim's lease has ended."""

import asyncio
import socket
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiohttp
from yarl import URL

from services.connectors.base import Answer, NotWritten, Unanswered
from services.runtime.discovery import Discovery
from services.runtime.http.wire import Wire
from services.runtime.unavailable import Unavailable

LEASE_S = 2.0
CONNECT_TIMEOUT_S = 2.0
KEEPALIVE_S = 15.0
CONSUL_SCHEME = "consul://"
TARGETS_MAX = 1000
"""Addresses that are remembered in parts; an account has a few."""
_USUAL = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "User-Agent": "chat4all"}


@dataclass(slots=True)
class Lease:
    """Until when (loop time) an attempt may begin to write, and whether its latest request was."""

    ends_at: float
    written: bool = False

    def use(self) -> None:
        """Begin to write; raise NotWritten when it is too late for that."""
        if asyncio.get_running_loop().time() >= self.ends_at:
            raise NotWritten("the lease of the claim ended before the request was written")
        self.written = True


current: ContextVar[Lease | None] = ContextVar("lease", default=None)
"""The lease of the running attempt; without one (a credentials check) nothing expires."""


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(LEASE_S * 1000))
    made.setblocking(False)
    return made


class ProviderHttp:
    """One provider's API, by its URL or as a service in Consul (`consul://name`).

    A request is written in one piece at the moment that the lease is looked at.
    """

    def __init__(self, url: str, discovery: Discovery, *, timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self._discovery = discovery
        if self._url.startswith(CONSUL_SCHEME):
            discovery.upstream(self._url.removeprefix(CONSUL_SCHEME))
        self._connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=KEEPALIVE_S, socket_factory=_socket
        )
        self._wire = Wire(self._connector, decompress=True, connect_timeout_s=CONNECT_TIMEOUT_S)
        self._timeout_s = timeout_s

    async def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> Answer:
        """Send one request and read its answer; see services.connectors.base.Http."""
        lease = current.get() or Lease(float("inf"))
        lease.written = False
        current.set(lease)
        try:
            async with asyncio.timeout(self._timeout_s):
                origin, path = _split(self._base() + path)
                answer = await self._wire.ask(
                    method, origin, path, {**_USUAL, **headers}, body, before_write=lease.use
                )
                return Answer(*answer)
        except Unavailable as error:
            raise NotWritten(str(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            kind = Unanswered if lease.written else NotWritten
            raise kind(f"{type(error).__name__}: {error}"[:200]) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._connector.close()

    def _base(self) -> str:
        if not self._url.startswith(CONSUL_SCHEME):
            return self._url
        upstream = self._discovery.upstream(self._url.removeprefix(CONSUL_SCHEME))
        return f"http://{upstream.choose(asyncio.get_running_loop().time()).address}"


@lru_cache(TARGETS_MAX)
def _split(url: str) -> tuple[str, str]:
    """Return origin and encoded path."""
    parsed = URL(url)
    return str(parsed.origin()), parsed.raw_path_qs
