"""HTTP to sibling services: found through Consul, with a deadline, retried once elsewhere."""

import asyncio
from typing import TypeVar

import aiohttp
import msgspec

from services.runtime.discovery import EJECT_S, Discovery, Endpoint
from services.runtime.http.wire import Answer, NotConnected, Wire
from services.runtime.telemetry import trace
from services.runtime.unavailable import Unavailable

EXPECT_HEADER = "X-Expect-Service"
"""Names the service a request is meant for: a freed port may belong to another by now."""
MISDIRECTED = 421
FAILED = (aiohttp.ClientError, OSError)
"""What a request without an answer ends with; a TimeoutError is an OSError."""
T = TypeVar("T")


class Siblings:
    """Calls other services of the platform under the installation's internal token."""

    def __init__(
        self, discovery: Discovery, session: aiohttp.ClientSession, internal_token: str
    ) -> None:
        if session.connector is None:
            raise ValueError("The session is closed.")
        self._discovery = discovery
        self._wire = Wire(session.connector, decompress=False, connect_timeout_s=None)
        self._authorization = f"Bearer {internal_token}"

    async def request(
        self,
        service: str,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = 5.0,
        repeatable: bool = False,
        key: str | None = None,
    ) -> Answer:
        """Send a request to one instance; raise Unavailable when none takes it.

        A request that cannot have been processed (refused, misdirected), or one that is
        repeatable, is tried once more at another instance. Requests of one key go to the same
        instance as long as it can be reached.
        """
        upstream = await self._discovery.known(service)
        clock = asyncio.get_running_loop().time
        first = upstream.choose(clock(), key=key)
        try:
            answer = await self._send(first, service, method, path, body, headers, timeout_s)
            if answer.status != MISDIRECTED:
                return answer
        except (aiohttp.ClientConnectorError, NotConnected):
            first.ejected_until = clock() + EJECT_S
        except FAILED as error:
            first.ejected_until = clock() + EJECT_S
            if not repeatable:
                raise Unavailable(service, type(error).__name__) from error
        second = upstream.choose(clock(), avoid=first, key=key)
        try:
            return await self._send(second, service, method, path, body, headers, timeout_s)
        except FAILED as error:
            raise Unavailable(service, type(error).__name__) from error

    async def ask(
        self, service: str, path: str, question: object, kind: type[T], *, timeout_s: float = 2.0
    ) -> T | None:
        """Post a repeatable question to a service; None when it answers 404."""
        answer = await self.request(
            service,
            "POST",
            path,
            body=msgspec.json.encode(question),
            headers={"Content-Type": "application/json"},
            timeout_s=timeout_s,
            repeatable=True,
        )
        if answer.status == 404:  # noqa: PLR2004 - there is no such thing
            return None
        if answer.status != 200:  # noqa: PLR2004 - questions are answered with 200
            raise Unavailable(service, f"answered {answer.status}")
        return msgspec.json.decode(answer.body, type=kind)

    async def _send(
        self,
        endpoint: Endpoint,
        service: str,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str] | None,
        timeout_s: float,
    ) -> Answer:
        sent = {
            "Authorization": self._authorization,
            EXPECT_HEADER: service,
            trace.HEADER: trace.header(),
        }
        if headers:
            sent.update(headers)
        endpoint.in_flight += 1
        try:
            async with asyncio.timeout(timeout_s):
                origin = f"http://{endpoint.address}"
                return await self._wire.ask(method, origin, path, sent, body)
        finally:
            endpoint.in_flight -= 1
