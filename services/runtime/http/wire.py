"""HTTP requests that are written in one piece, at half of what a session of aiohttp costs.

Connections, TLS and the reading of answers are aiohttp's.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

ORIGINS_MAX = 1000
"""Origins that are remembered in the form that aiohttp wants to be asked for a connection."""
_PROVISIONAL = range(100, 200)
_LINE_BREAK = re.compile(r"[\r\n]")


class NotConnected(aiohttp.ClientConnectionError):
    """A connection was closed before a byte of the request was written."""


class Answer(NamedTuple):
    """What was answered: status, headers, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """Asks over the connections of a connector; deadlines of whole requests are the caller's."""

    def __init__(
        self, connector: aiohttp.BaseConnector, *, decompress: bool, connect_timeout_s: float | None
    ) -> None:
        self._connector = connector
        self._decompress = decompress
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)

    async def ask(
        self,
        method: str,
        origin: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        before_write: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Send a request to an origin and read its answer; raise aiohttp.ClientError, OSError.

        `path` is encoded already. `before_write` is called at the last moment: the connection
        stands and nothing of the request is written; what it raises stops the request.
        """
        to, host = _target(origin)
        request = _request(method, host, path, headers, body)
        connection = await self._connector.connect(to, [], self._timeout)
        try:
            protocol: Any = connection.protocol
            protocol.set_response_params(
                read_until_eof=True,
                auto_decompress=self._decompress,
                skip_payload=method == "HEAD",
            )
            self._write(protocol, request, before_write)
            message, payload = await protocol.read()
            while message.code in _PROVISIONAL:
                message, payload = await protocol.read()
            answer = Answer(message.code, message.headers, await payload.read())
        except BaseException as error:
            connection.close()
            if isinstance(error, HttpProcessingError):
                raise aiohttp.ClientPayloadError(str(error)) from error
            raise
        connection.release()
        return answer

    def _write(self, protocol: Any, request: bytes, before_write: Callable[[], None]) -> None:
        if not protocol.is_connected():
            raise NotConnected("the connection was closed before the request was written")
        before_write()
        protocol.transport.write(request)


@lru_cache(ORIGINS_MAX)
def _target(origin: str) -> tuple[ClientRequest, str]:
    """Return what aiohttp connects for, and the Host header."""
    request = ClientRequest("GET", URL(origin))
    return request, request.headers["Host"]


def _request(
    method: str, host: str, path: str, headers: Mapping[str, str], body: bytes | None
) -> bytes:
    """Return a request as it goes over the wire."""
    if any(map(_LINE_BREAK.search, headers.values())):
        raise ValueError("A header's value holds a line break.")
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        *[f"{name}: {value}" for name, value in headers.items()],
    ]
    if body is not None or method not in ("GET", "HEAD"):
        lines.append(f"Content-Length: {len(body or b'')}")
    return "\r\n".join(lines).encode(errors="surrogateescape") + b"\r\n\r\n" + (body or b"")
