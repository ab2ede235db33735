"""The little that a process asks of Consul: keys, and answers that are watched for change."""

import asyncio
import base64
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import msgspec

from services.runtime.telemetry.log import log
from services.runtime.unavailable import Unavailable

WAIT_S = 30
POLL_INTERVAL_MIN_S = 0.1
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.2, 10.0

_log = log(__name__)


class Consul:
    """An agent's HTTP API."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self._address = address if "://" in address else f"http://{address}"
        self._session = session

    async def read(self, prefix: str) -> dict[str, str]:
        """Return the keys below a prefix (without it) and their values."""
        answer, _ = await self._get(f"/v1/kv/{prefix}", {"recurse": "true"}, timeout_s=5)
        return keys_of(answer, prefix)

    async def put(self, key: str, value: bytes, *, only_new: bool = False) -> None:
        """Write one key; `only_new` leaves what is there."""
        async with self._session.put(
            f"{self._address}/v1/kv/{key}",
            params={"cas": "0"} if only_new else {},
            data=value,
            timeout=aiohttp.ClientTimeout(total=5),
        ) as answer:
            answer.raise_for_status()

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Any]:
        """Yield the decoded answer of a path now and whenever its index moves, for ever.

        Errors back off from 0.2 s to 10 s with jitter; meanwhile the caller keeps what it has.
        """
        index, failures = 0, 0
        while True:
            started = asyncio.get_running_loop().time()
            try:
                answer, found = await self._get(
                    path,
                    {**query, "index": str(index), "wait": f"{WAIT_S}s"},
                    timeout_s=WAIT_S * 1.1 + 5,
                )
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
                failures += 1
                if failures == 1:
                    _log.warning("consul_unreachable", path=path, error=repr(error))
                ceiling = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2**failures)
                await asyncio.sleep(random.uniform(BACKOFF_MIN_S, ceiling))  # noqa: S311
                continue
            failures = 0
            if found != index:
                yield answer
            index = found if found >= index else 0
            spent = asyncio.get_running_loop().time() - started
            await asyncio.sleep(max(0.0, POLL_INTERVAL_MIN_S - spent))

    async def _get(
        self, path: str, query: Mapping[str, str], *, timeout_s: float
    ) -> tuple[Any, int]:
        async with self._session.get(
            f"{self._address}{path}",
            params=query,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as answer:
            if answer.status != 404:  # noqa: PLR2004 - no such key yet
                answer.raise_for_status()
            body = await answer.read()
            index = int(answer.headers.get("X-Consul-Index", "0"))
            return (msgspec.json.decode(body) if answer.ok else []), index


def keys_of(entries: list[dict[str, Any]], prefix: str) -> dict[str, str]:
    """Return the keys (without the prefix) and values of Consul's KV entries."""
    return {
        entry["Key"].removeprefix(prefix): base64.b64decode(entry["Value"] or "").decode()
        for entry in entries
    }


async def configuration(consul: Consul, service: str) -> dict[str, str]:
    """Return what Consul KV configures for a service, its own keys over the common ones."""
    try:
        common = await consul.read("chat4all/config/common/")
        own = await consul.read(f"chat4all/config/{service}/")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable("consul", str(error)) from error
    return {**common, **own}
