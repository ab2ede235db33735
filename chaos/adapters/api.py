"""The platform's public API, as a client uses it."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import aiohttp
import msgspec

from chaos.adapters import NO_ANSWER
from chaos.history import FinalState

ASKED_AT_ONCE = 20
DEADLINE = aiohttp.ClientTimeout(total=15)
JSON = {"Content-Type": "application/json"}


class Refused(Exception):  # noqa: N818 - an answer
    """The API answered a set-up request with an error."""


class Api:
    """A client with an API key."""

    def __init__(self, url: str, api_key: str, session: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/") + "/api/v1"
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._session = session

    async def call(
        self, method: str, path: str, body: object = None, *, timeout_s: float = 15.0
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Send one request; return status, decoded body and headers."""
        async with self._session.request(
            method,
            self._url + path,
            json=body,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as answer:
            text = await answer.read()
            decoded = await answer.json(content_type=None) if text else None
            return answer.status, decoded, answer.headers

    async def post(self, path: str, body: object) -> int:
        """Post something of whose answer only the status counts, at little cost; return it."""
        async with self._session.post(
            self._url + path,
            data=msgspec.json.encode(body),
            headers=self._headers | JSON,
            timeout=DEADLINE,
        ) as answer:
            # The connection can be used again once all was read.
            await answer.read()
            return answer.status

    async def create(self, resource: str, body: object) -> Any:
        """Create something; raise Refused when it is not created."""
        status, answer, _ = await self.call("POST", f"/{resource}", body)
        if status != 201:  # noqa: PLR2004
            raise Refused(f"POST /{resource} was answered {status}: {answer}")
        return answer

    async def customer(self, name: str, channel: str, address: str) -> str:
        """Create a customer with an identity; return the user id."""
        user = await self.create("users", {"kind": "CUSTOMER", "name": name})
        identity = {"user_id": user["user_id"], "channel": channel, "address": address}
        await self.create("identities", identity)
        return str(user["user_id"])

    async def conversation(self, participants: list[str], channel: str) -> str:
        """Create a conversation; return its id."""
        body = {"participants": participants, "primary_channel": channel}
        created = await self.create("conversations", body)
        return str(created["conversation_id"])

    async def final_state(self, message_id: UUID) -> FinalState:
        """Return what the API says of a message and of its first delivery."""
        status, body, _ = await self.call("GET", f"/messages/{message_id}/status")
        if status != 200:  # noqa: PLR2004
            return FinalState(status=f"HTTP {status}")
        reasons = [d["reason"]["code"] for d in body["deliveries"] if d.get("reason")]
        return FinalState(status=body["status"], reason=reasons[0] if reasons else None)

    async def final_states(self, message_ids: Sequence[UUID]) -> dict[UUID, FinalState]:
        """Return what the API says of several messages; one it does not answer for is left out."""
        turns = asyncio.Semaphore(ASKED_AT_ONCE)
        found: dict[UUID, FinalState] = {}

        async def ask(message_id: UUID) -> None:
            async with turns:
                with suppress(*NO_ANSWER):
                    found[message_id] = await self.final_state(message_id)

        await asyncio.gather(*map(ask, message_ids))
        return found
