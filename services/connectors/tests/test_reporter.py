"""The reporter: what was stored is told, however often Kafka is away, and marked only then."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from services.connectors import reporter
from services.connectors.tests.bench import Bench, Users, delivery
from services.contracts.status import Status
from services.runtime.kafka.producer import Outgoing
from services.runtime.unavailable import Unavailable

pytestmark = pytest.mark.connected


async def test_reports_wait_for_kafka(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told in their order, and a row counts as told only after it was."""
    monkeypatch.setattr(reporter, "RETRY_S", 0.001)
    publish, away = Users.publish, 3

    async def fail(users: Users, outgoing: Sequence[Outgoing]) -> None:
        nonlocal away
        if away:
            away -= 1
            assert await bench.outcomes.unreported([3])
            raise Unavailable("kafka")
        await publish(users, outgoing)

    monkeypatch.setattr(Users, "publish", fail)
    running = asyncio.create_task(bench.reporter.run())
    rows = []
    for number in range(5):
        row, attempt = await bench.claimed(delivery())
        rows.append(row)
        await bench.reporter.put(await bench.outcomes.accepted(row, attempt, f"p{number}"))
    async with asyncio.timeout(5):
        await bench.reporter.flush()
    assert [one.message_id for one in bench.users.records] == [row.message_id for row in rows]
    assert {one.status for one in bench.users.records} == {Status.SENT}
    assert await bench.outcomes.unreported([3]) == []
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
