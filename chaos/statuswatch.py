"""Looks again and again at a few messages, as a customer's screen does."""

import asyncio
from collections import deque
from contextlib import suppress
from uuid import UUID

import aiohttp

from chaos.adapters.api import Api
from chaos.checkers.statuses import StatusSeen
from chaos.clock import Clock
from chaos.history import Outcome
from chaos.workload import Workload
from services.contracts.status import Status

EVERY_S = 0.25
WATCHED_MAX = 3
LOOKS_MAX = 16


class StatusWatch:
    """Follows the newest message for some looks, then another one."""

    def __init__(self, api: Api, workload: Workload, clock: Clock) -> None:
        self._api = api
        self._workload = workload
        self._clock = clock
        self._watched: deque[tuple[UUID, int]] = deque()
        self.seen: list[StatusSeen] = []

    async def run(self) -> None:
        """Look for ever; what cannot be read is looked at the next time."""
        while True:
            sends = self._workload.sends
            if len(self._watched) < WATCHED_MAX and sends and sends[-1].outcome is Outcome.OK:
                self._watched.append((sends[-1].message_id, 0))
            for _ in range(len(self._watched)):
                message_id, looks = self._watched.popleft()
                with suppress(aiohttp.ClientError, TimeoutError):
                    await self._look(message_id)
                if looks + 1 < LOOKS_MAX:
                    self._watched.append((message_id, looks + 1))
            await asyncio.sleep(EVERY_S)

    async def _look(self, message_id: UUID) -> None:
        at = self._clock.now()
        status, body, _ = await self._api.call("GET", f"/messages/{message_id}/status")
        if status != 200:  # noqa: PLR2004
            return
        self.seen += [
            StatusSeen(
                message_id=message_id,
                recipient_id=delivery["recipient_id"],
                at=at,
                status=Status(delivery["status"]),
                reason=(delivery.get("reason") or {}).get("code"),
                replay_no=delivery["replay_no"],
            )
            for delivery in body["deliveries"]
        ]
