"""HTTP to a provider under a lease: no byte is written after the claim's lease has ended."""

import asyncio
import re
import socket
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from services.connectors.base import Answer, NotWritten, Unanswered
from services.runtime.discovery import Discovery
from services.runtime.unavailable import Unavailable

LEASE_S = 2.0
CONNECT_TIMEOUT_S = 2.0
KEEPALIVE_S = 15.0
CONSUL_SCHEME = "consul://"
TARGETS_MAX = 1000
"""Addresses that are remembered in the form that is needed; an account has a few."""
_PROVISIONAL = range(100, 200)
_USUAL = "Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nUser-Agent: chat4all"
_LINE_BREAK = re.compile(r"[\r\n]")


@dataclass(slots=True)
class Lease:
    """Until when (loop time) an attempt may begin to write, and whether its latest request was."""

    ends_at: float
    written: bool = False


current: ContextVar[Lease | None] = ContextVar("lease", default=None)
"""The lease of the running attempt; without one (a credentials check) nothing expires."""


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(LEASE_S * 1000))
    made.setblocking(False)
    return made


class _Target(NamedTuple):
    """Where a request goes: whom to connect to, as aiohttp wants to be asked, and what for."""

    to: ClientRequest
    host: str
    path: str


class ProviderHttp:
    """One provider's API, by its URL or as a service in Consul (`consul://name`).

    Connections, TLS and the reading of answers are aiohttp's. A request is written here, in one
    piece at the moment that the lease is looked at, which costs half of what a session does.
    """

    def __init__(self, url: str, discovery: Discovery, *, timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self._discovery = discovery
        if self._url.startswith(CONSUL_SCHEME):
            discovery.upstream(self._url.removeprefix(CONSUL_SCHEME))
        self._connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=KEEPALIVE_S, socket_factory=_socket
        )
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        self._targets: dict[str, _Target] = {}

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
            async with asyncio.timeout(self._timeout.total):
                target = self._target(self._base() + path)
                request = _request(method, target, headers, body or b"")
                connection = await self._connector.connect(target.to, [], self._timeout)
                try:
                    answer = await self._ask(connection, request, lease)
                except BaseException:
                    connection.close()
                    raise
                connection.release()
                return answer
        except Unavailable as error:
            raise NotWritten(str(error)) from error
        except (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError) as error:
            kind = Unanswered if lease.written else NotWritten
            raise kind(f"{type(error).__name__}: {error}"[:200]) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._connector.close()

    async def _ask(self, connection: Any, request: bytes, lease: Lease) -> Answer:
        protocol = connection.protocol
        protocol.set_response_params(read_until_eof=True)
        self._write(protocol, request, lease)
        message, payload = await protocol.read()
        while message.code in _PROVISIONAL:
            message, payload = await protocol.read()
        return Answer(message.code, message.headers, await payload.read())

    def _write(self, protocol: Any, request: bytes, lease: Lease) -> None:
        """Write at the last moment: the connection stands, nothing of the request is written."""
        if asyncio.get_running_loop().time() >= lease.ends_at:
            raise NotWritten("the lease of the claim ended before the request was written")
        if not protocol.is_connected():
            raise NotWritten("the connection was closed before the request was written")
        lease.written = True
        protocol.transport.write(request)

    def _base(self) -> str:
        if not self._url.startswith(CONSUL_SCHEME):
            return self._url
        upstream = self._discovery.upstream(self._url.removeprefix(CONSUL_SCHEME))
        return f"http://{upstream.choose(asyncio.get_running_loop().time()).address}"

    def _target(self, url: str) -> _Target:
        target = self._targets.get(url)
        if target is None:
            if len(self._targets) >= TARGETS_MAX:
                self._targets.clear()
            to = ClientRequest("GET", URL(url))
            target = self._targets[url] = _Target(to, to.headers["Host"], to.url.raw_path_qs)
        return target


def _request(method: str, target: _Target, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a request as it goes over the wire."""
    if any(map(_LINE_BREAK.search, headers.values())):
        raise ValueError("A header's value holds a line break.")
    lines = [
        f"{method} {target.path} HTTP/1.1",
        f"Host: {target.host}",
        _USUAL,
        *[f"{name}: {value}" for name, value in headers.items()],
    ]
    if method != "GET":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
