"""Housekeeping on a real PostgreSQL: what nobody else does any more is done in time."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from services.connectors.base import StatusUpdate
from services.connectors.housekeeping import UNCLAIMED, UNTOLD_S, Housekeeping
from services.connectors.tests.bench import LOST, NOW, Bench, delivery
from services.contracts.records import DeadLetter
from services.contracts.status import OUTCOME_UNKNOWN, Status
from services.runtime.unavailable import Unavailable

pytestmark = pytest.mark.connected

DEADLINE_S = 100.0


def housekeeping(bench: Bench, producer: Any = None) -> Housekeeping:
    """Return the housekeeping of who owns the lane's partition."""
    config = SimpleNamespace(
        channel="test", unknown_deadline_s=DEADLINE_S, parked_deadline_s=DEADLINE_S
    )
    return Housekeeping(
        cast("Any", config),
        bench.outcomes,
        bench.evidence,
        bench.echoes,
        cast("Any", SimpleNamespace(partitions=[3])),
        bench.reporter,
        producer or cast("Any", bench.users),
    )


async def told(bench: Bench) -> None:
    """Tell what was handed to the reporter."""
    while not bench.reporter._waiting.empty():
        await bench.tell(bench.reporter._waiting.get_nowait())


async def test_echoes_come_before_giving_up(bench: Bench) -> None:
    """A send past its deadline for which evidence waits is sent; one without it failed."""
    shown, attempt = await bench.claimed(delivery(content="shown"))
    await bench.echo("e1", "shown")
    await bench.tell(await bench.outcomes.unanswered(shown, attempt, LOST))
    silent, _ = await bench.lost(delivery(content="silent"))
    await housekeeping(bench)._once()
    await told(bench)
    assert bench.users.sees(shown) == (0, Status.SENT, None)
    assert bench.users.sees(silent) == (0, Status.UNKNOWN, "no_answer")
    await bench.age(DEADLINE_S)
    await housekeeping(bench)._once()
    await told(bench)
    assert bench.users.sees(shown) == (0, Status.SENT, None)
    assert bench.users.sees(silent) == (0, Status.FAILED, OUTCOME_UNKNOWN)


async def test_what_another_stored_and_never_told_is_told(bench: Bench) -> None:
    """A process that had lost its partition and died left a result that no takeover looks for."""
    row, attempt = await bench.claimed()
    await bench.outcomes.accepted(row, attempt, "p")
    await housekeeping(bench)._once()
    await told(bench)
    assert bench.users.sees(row) is None
    await bench.pool.execute(
        "update ledger.delivery set settled_at = settled_at - $2 * interval '1 second'"
        " where channel = $1",
        bench.channel,
        UNTOLD_S,
    )
    bench.reporter.idle = False
    await housekeeping(bench)._once()
    await told(bench)
    assert bench.users.sees(row) is None, "it may be among what the reporter has in hand"
    bench.reporter.idle = True
    await housekeeping(bench)._once()
    await told(bench)
    assert bench.users.sees(row) == (0, Status.SENT, None)
    assert await bench.outcomes.unreported([3]) == []


async def test_an_unclaimed_status_is_a_dead_letter_before_it_is_gone(bench: Bench) -> None:
    """While Kafka is away it is kept."""
    await bench.hear(StatusUpdate(provider_id="stranger", status=Status.READ, at=NOW))
    await bench.pool.execute(
        "update ledger.provider_message set created_at = created_at - $2 * interval '1 second'"
        " where channel = $1",
        bench.channel,
        DEADLINE_S,
    )
    letters: list[Any] = []

    async def away(_outgoing: object) -> None:
        raise Unavailable("kafka")

    async def publish(outgoing: list[Any]) -> None:
        letters.extend(one.record for one in outgoing)

    with pytest.raises(Unavailable):
        await housekeeping(bench, SimpleNamespace(publish=away))._once()
    for _ in range(2):
        await housekeeping(bench, SimpleNamespace(publish=publish))._once()
    (letter,) = letters
    assert isinstance(letter, DeadLetter)
    assert (letter.reason.code, letter.key) == (UNCLAIMED, b"main stranger")
    (status,) = msgspec.json.decode(letter.value, type=list[StatusUpdate])
    assert status.status is Status.READ
