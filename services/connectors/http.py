"""HTTP to a provider under a lease: no byte is written after the claim's lease has ended."""

import asyncio
import socket
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.client_reqrep import ClientRequest, ClientResponse

from services.connectors.base import Answer, NotWritten, Unanswered
from services.runtime.discovery import Discovery
from services.runtime.unavailable import Unavailable

LEASE_S = 2.0
CONNECT_TIMEOUT_S = 2.0
KEEPALIVE_S = 15.0
CONSUL_SCHEME = "consul://"


@dataclass(slots=True)
class Lease:
    """Until when (loop time) an attempt may begin to write, and whether its latest request was."""

    ends_at: float
    written: bool = False


current: ContextVar[Lease | None] = ContextVar("lease", default=None)
"""The lease of the running attempt; without one (a credentials check) nothing expires."""


class _LeasedRequest(ClientRequest):
    """Checks the lease at the last moment: the connection stands, nothing is written yet."""

    async def send(self, conn: Any) -> ClientResponse:
        lease = current.get()
        if lease is not None:
            if asyncio.get_running_loop().time() >= lease.ends_at:
                raise NotWritten("the lease of the claim ended before the request was written")
            lease.written = True
        return await super().send(conn)


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(LEASE_S * 1000))
    made.setblocking(False)
    return made


class ProviderHttp:
    """One provider's API, by its URL or as a service in Consul (`consul://name`)."""

    def __init__(self, url: str, discovery: Discovery, *, timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self._discovery = discovery
        if self._url.startswith(CONSUL_SCHEME):
            discovery.upstream(self._url.removeprefix(CONSUL_SCHEME))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEPALIVE_S, socket_factory=_socket
            ),
            request_class=_LeasedRequest,
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

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
            async with self._session.request(
                method, self._base() + path, headers=headers, data=body, allow_redirects=False
            ) as answer:
                return Answer(answer.status, answer.headers, await answer.read())
        except Unavailable as error:
            raise NotWritten(str(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            kind = Unanswered if lease.written else NotWritten
            raise kind(f"{type(error).__name__}: {error}"[:200]) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def _base(self) -> str:
        if not self._url.startswith(CONSUL_SCHEME):
            return self._url
        upstream = self._discovery.upstream(self._url.removeprefix(CONSUL_SCHEME))
        return f"http://{upstream.choose(asyncio.get_running_loop().time()).address}"
