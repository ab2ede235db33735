"""Toxiproxy: one proxy for each link, named `<service>--<dependency>`."""

import asyncio
import re
from typing import Any

import aiohttp
import msgspec

_RECEIVED = re.compile(r"\bbytes_received:(\d+)")
_BYTES = "toxiproxy_proxy_received_bytes_total{"
DEADLINE = aiohttp.ClientTimeout(total=3)
"""Removing a toxic under load can hang its API."""


class NoProxy(Exception):  # noqa: N818 - a refusal
    """The link does not run through a proxy."""


class Toxiproxy:
    """A Toxiproxy's HTTP API."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url.rstrip("/")
        self._session = session

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        async with self._session.request(
            method, self.url + path, json=body, timeout=DEADLINE
        ) as answer:
            answer.raise_for_status()
            text = await answer.read()
            return msgspec.json.decode(text) if text else None

    async def proxies(self) -> dict[str, Any]:
        """Return all proxies by name."""
        found: dict[str, Any] = await self._call("GET", "/proxies")
        return found

    async def require(self, name: str) -> None:
        """Raise NoProxy when a link has no proxy."""
        found = await self.proxies()
        if name not in found:
            raise NoProxy(
                f"there is no proxy {name}: `just up --links proxied` "
                f"(there are: {', '.join(sorted(found)) or 'none'})"
            )

    async def carried(self, name: str) -> float:
        """Return how many bytes a proxy has carried so far.

        It counts those of a connection when that ends; those of open ones the kernel knows.
        """
        async with self._session.get(f"{self.url}/metrics", timeout=DEADLINE) as answer:
            answer.raise_for_status()
            lines = (await answer.text()).splitlines()
        counts = [
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith(_BYTES) and f'proxy="{name}"' in line
        ]
        port = (await self.proxies())[name]["listen"].rpartition(":")[2]
        return sum(counts) + await _open_now(port)

    async def poison(
        self, proxy: str, name: str, kind: str, stream: str, attributes: dict[str, int]
    ) -> None:
        """Put a toxic on one direction of a link."""
        body = {"name": name, "type": kind, "stream": stream, "attributes": attributes}
        await self._call("POST", f"/proxies/{proxy}/toxics", {**body, "toxicity": 1.0})

    async def toxics(self, proxy: str) -> list[str]:
        """Return the names of the toxics of a link."""
        return [toxic["name"] for toxic in await self._call("GET", f"/proxies/{proxy}/toxics")]

    async def cure(self, proxy: str, name: str) -> None:
        """Take a toxic away, if it is there."""
        if name in await self.toxics(proxy):
            await self._call("DELETE", f"/proxies/{proxy}/toxics/{name}")

    async def reset(self) -> None:
        """Take all toxics away and switch all proxies on."""
        await self._call("POST", "/reset")


async def _open_now(port: str) -> int:
    """Return how many bytes the open connections to a port of this machine have brought."""
    listing = await asyncio.create_subprocess_exec(
        "ss", "-Htin", "state", "established", f"sport = :{port}", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await listing.communicate()
    return sum(map(int, _RECEIVED.findall(output.decode())))
