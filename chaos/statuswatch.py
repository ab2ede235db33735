"""Looks again and again at a few messages, as a customer's screen does."""

import asyncio
from contextlib import suppress
from uuid import UUID

from chaos.adapters import NO_ANSWER
from chaos.adapters.api import Api
from chaos.checkers.statuses import StatusSeen
from chaos.clock import Clock
from chaos.history import Outcome
from chaos.workload import Workload
from services.contracts.status import Status

WATCHED_MAX = 3
AGAIN_S = 0.1
PAUSES_S = (0.0, 0.1, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Before each look: most statuses come in the first second, and looking is load as well."""


class StatusWatch:
    """Follows the newest message for some looks, then another one; a few at the same time."""

    def __init__(self, api: Api, workload: Workload, clock: Clock) -> None:
        self._api = api
        self._workload = workload
        self._clock = clock
        self._followed: UUID | None = None
        self.seen: list[StatusSeen] = []

    async def run(self) -> None:
        """Look for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WATCHED_MAX):
                group.create_task(self._follow())

    async def _follow(self) -> None:
        """Look at one message after the other; what cannot be read is looked at the next time."""
        while True:
            sends = self._workload.sends
            newest = sends[-1] if sends and sends[-1].outcome is Outcome.OK else None
            if newest is None or newest.message_id == self._followed:
                await asyncio.sleep(AGAIN_S)
                continue
            self._followed = newest.message_id
            for pause_s in PAUSES_S:
                await asyncio.sleep(pause_s)
                with suppress(*NO_ANSWER):
                    await self._look(newest.message_id)

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
