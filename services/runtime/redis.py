"""Redis: connected in the background and never waited for; losing it loses speed only.

So it is no part of readiness: who uses it has an answer of its own for when it is away.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.runtime.app import App
from services.runtime.telemetry.log import log
from services.runtime.unavailable import Unavailable, register

NAME = "redis"
OPERATION_TIMEOUT_S = 0.25
RETRY_S = 0.5

register(NAME, RedisError)
_log = log(__name__)


def client_of(address: str) -> Client:
    """Return a client that tries once: whoever asks can do without the answer."""
    host, port = address.rsplit(":", 1)
    return Client(host=host, port=int(port), retry=Retry(NoBackoff(), 0))


class Redis:
    """The platform's Redis, for as long as a process lives."""

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._client: Client | None = None
        self._lost = asyncio.Event()
        app.on_stop(NAME, self._close)
        app.spawn(NAME, self._keep())

    async def evaluate(self, script: str, keys: Sequence[str], arguments: Sequence[float]) -> Any:
        """Run a Lua script; raise Unavailable, at once while Redis is known to be away."""
        client = self._client
        if client is None:
            raise Unavailable(NAME, "it was not reached")
        try:
            async with asyncio.timeout(OPERATION_TIMEOUT_S):
                return await client.eval(script, len(keys), *keys, *arguments)
        except (RedisError, OSError, TimeoutError) as error:
            if self._client is client:
                self._client = None
                self._lost.set()
            raise Unavailable(NAME, repr(error)) from error

    async def _keep(self) -> None:
        away = False
        while True:
            self._lost.clear()
            try:
                client = await self._connect()
            except (RedisError, OSError, TimeoutError, Unavailable) as error:
                if not away:
                    _log.warning("redis_not_reached", error=repr(error))
                away = True
                await asyncio.sleep(RETRY_S)
                continue
            away = False
            self._client = client
            _log.info("redis_reached")
            await self._lost.wait()
            _log.warning("redis_lost")
            await client.aclose()

    async def _connect(self) -> Client:
        """Return a client that had an answer."""
        address = self._app.config.redis_address or await self._app.discovery.address(NAME)
        client = client_of(address)
        try:
            async with asyncio.timeout(OPERATION_TIMEOUT_S):
                await client.ping()
        except BaseException:
            await client.aclose()
            raise
        return client

    async def _close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
