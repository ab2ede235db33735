"""A few messages are followed from their acceptance on, and no more of them than that."""

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import aiohttp
import pytest

from chaos import statuswatch
from chaos.adapters.api import Api
from chaos.clock import Clock
from chaos.history import Outcome
from chaos.statuswatch import PAUSES_S, WATCHED_MAX, StatusWatch
from chaos.workload import Workload
from services.contracts.status import Status


class FakeApi:
    """Answers every second look, and counts them."""

    def __init__(self) -> None:
        self.looks: Counter[str] = Counter()

    async def call(self, _method: str, path: str) -> tuple[int, Any, Any]:
        """Answer a look."""
        self.looks[path] += 1
        if self.looks[path] % 2:
            raise aiohttp.ServerDisconnectedError
        delivery = {"recipient_id": "r", "status": "SENT", "reason": None, "replay_no": 0}
        return 200, {"deliveries": [delivery]}, {}


async def test_a_few_messages_are_followed_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is looked at as often as is written, whatever an answer was; no refused one."""
    monkeypatch.setattr(statuswatch, "PAUSES_S", [0.0] * len(PAUSES_S))
    monkeypatch.setattr(statuswatch, "AGAIN_S", 0.0)
    sends: list[Any] = []
    api, workload = FakeApi(), SimpleNamespace(sends=sends)
    watch = StatusWatch(cast("Api", api), cast("Workload", workload), Clock())
    running = asyncio.create_task(watch.run())
    wanted = set()
    async with asyncio.timeout(5):
        for outcome in (Outcome.INFO, *[Outcome.OK] * (2 * WATCHED_MAX)):
            sends.append(SimpleNamespace(message_id=uuid4(), outcome=outcome))
            path = f"/messages/{sends[-1].message_id}/status"
            while outcome is Outcome.OK and not api.looks[path]:
                await asyncio.sleep(0)
            wanted |= {path} if outcome is Outcome.OK else set()
        while any(api.looks[path] < len(PAUSES_S) for path in wanted):
            await asyncio.sleep(0)
    running.cancel()
    assert set(api.looks) == wanted
    assert set(api.looks.values()) == {len(PAUSES_S)}
    assert len(watch.seen) == len(wanted) * len(PAUSES_S) // 2
    assert {seen.status for seen in watch.seen} == {Status.SENT}
