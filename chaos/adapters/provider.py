"""The provider's receipts, read from a simulator: the witness of every run."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from chaos.adapters import NO_ANSWER
from chaos.adapters.consul import NotFound, url_of
from chaos.history import Receipt

PAGE = 1000


class _Page(Struct):
    items: list[Receipt]


_decode_page = msgspec.json.Decoder(_Page).decode


class Provider:
    """A simulator's control API, which may be elsewhere after a restart."""

    def __init__(
        self, url: str, locate: Callable[[], Awaitable[str]], session: aiohttp.ClientSession
    ) -> None:
        self.url = url
        self._locate = locate
        self._session = session

    @classmethod
    async def find(
        cls, consul_url: str, service: str, session: aiohttp.ClientSession
    ) -> "Provider":
        """Return the one that is registered as a service; raise NotFound when none passes."""
        locate = partial(url_of, consul_url, service, session)
        return cls(await locate(), locate, session)

    @asynccontextmanager
    async def _ask(
        self, method: str, path: str, **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask once; when nobody is there any more, the next question goes to where it is then."""
        url = f"{self.url}/_sim/{path}"
        try:
            async with self._session.request(method, url, raise_for_status=True, **more) as answer:
                yield answer
        except aiohttp.ClientConnectorError:
            with suppress(NotFound, *NO_ANSWER):
                self.url = await self._locate()
            raise

    async def receipts(self, after: int = 0, to: str | None = None) -> list[Receipt]:
        """Return all receipts after a sequence number, or those for one address."""
        found: list[Receipt] = []
        while True:
            query = {"after": str(after), "limit": str(PAGE), **({"to": to} if to else {})}
            async with self._ask("GET", "receipts", params=query) as answer:
                page = _decode_page(await answer.read()).items
            found += page
            if len(page) < PAGE:
                return found
            after = found[-1].seq

    async def state(self) -> dict[str, Any]:
        """Return the simulator's counters."""
        async with self._ask("GET", "state") as answer:
            state: dict[str, Any] = await answer.json()
            return state

    async def post(self, path: str, body: object) -> Any:
        """Tell the simulator to do something."""
        async with self._ask("POST", path, json=body) as answer:
            return await answer.json()

    async def set_fault(self, fault: object) -> int:
        """Set a fault; return its id."""
        return int((await self.post("faults", fault))["id"])

    async def faults(self) -> dict[int, int]:
        """Return how often each fault that is set has happened, by id."""
        async with self._ask("GET", "faults") as answer:
            return {item["id"]: item["hits"] for item in (await answer.json())["items"]}

    async def clear_faults(self) -> None:
        """Take all faults away."""
        async with self._ask("DELETE", "faults"):
            pass
