"""The provider's receipts, read from a simulator: the witness of every run."""

from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from chaos.history import Receipt

PAGE = 1000


class _Page(Struct):
    items: list[Receipt]


_decode_page = msgspec.json.Decoder(_Page).decode


class Provider:
    """A simulator's control API."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url.rstrip("/")
        self._url = self.url + "/_sim"
        self._session = session

    async def receipts(self, after: int = 0, to: str | None = None) -> list[Receipt]:
        """Return all receipts after a sequence number, or those for one address."""
        found: list[Receipt] = []
        while True:
            query = {"after": str(after), "limit": str(PAGE), **({"to": to} if to else {})}
            async with self._session.get(f"{self._url}/receipts", params=query) as answer:
                answer.raise_for_status()
                page = _decode_page(await answer.read()).items
            found += page
            if len(page) < PAGE:
                return found
            after = found[-1].seq

    async def state(self) -> dict[str, Any]:
        """Return the simulator's counters."""
        async with self._session.get(f"{self._url}/state") as answer:
            answer.raise_for_status()
            state: dict[str, Any] = await answer.json()
            return state

    async def post(self, path: str, body: object) -> Any:
        """Tell the simulator to do something."""
        async with self._session.post(f"{self._url}/{path}", json=body) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def set_fault(self, fault: object) -> int:
        """Set a fault; return its id."""
        return int((await self.post("faults", fault))["id"])

    async def faults(self) -> dict[int, int]:
        """Return how often each fault that is set has happened, by id."""
        async with self._session.get(f"{self._url}/faults") as answer:
            answer.raise_for_status()
            return {item["id"]: item["hits"] for item in (await answer.json())["items"]}

    async def clear_faults(self) -> None:
        """Take all faults away."""
        async with self._session.delete(f"{self._url}/faults") as answer:
            answer.raise_for_status()
