"""The ledger on a real PostgreSQL: who may send, what a result means, what evidence settles."""

import asyncio
from uuid import uuid4

import pytest

from services.connectors.base import InboundMessage
from services.connectors.ledger import CLAIM_BOUND_S
from services.connectors.tests.bench import LANE, NOW, Bench, delivery, head, status
from services.contracts.ids import inbound_id, new_id
from services.contracts.records import Reason
from services.contracts.status import OUTCOME_UNKNOWN, Status

pytestmark = pytest.mark.connected


async def test_intake_keeps_order_and_first_occurrences(bench: Bench) -> None:
    """A record that comes twice is one row, and a lane keeps the order of its records."""
    rows = [delivery() for _ in range(20)]
    assert len(await bench.first.take_in(rows[:12])) == 12
    assert len(await bench.second.take_in(rows[5:])) == 8
    epoch = (await bench.first.own([3], {}))[3]
    seen = []
    for _ in rows:
        row = await head(bench.first)
        seen.append(row.message_id)
        attempt = new_id()
        assert await bench.first.claim(row, epoch, attempt)
        await bench.outcomes.accepted(row, attempt, f"p-{row.message_id}")
    assert seen == [row.message_id for row in rows]
    assert await bench.first.head(LANE) is None


async def test_a_zombie_cannot_claim(bench: Bench) -> None:
    """After a takeover a claim under the old epoch fails, and one under the new succeeds once."""
    await bench.first.take_in([delivery()])
    old = (await bench.first.own([3], {}))[3]
    new = (await bench.second.own([3], {}))[3]
    assert new > old
    row = await head(bench.second)
    assert not await bench.first.claim(row, old, new_id())
    assert await bench.second.claim(row, new, new_id())
    assert not await bench.second.claim(row, new, new_id())


async def test_an_old_epoch_of_the_owner_itself_cannot_claim(bench: Bench) -> None:
    """Who lost a partition and got it again has lanes of before, which may not send."""
    await bench.first.take_in([delivery()])
    old = (await bench.first.own([3], {}))[3]
    await bench.second.own([3], {})
    new = (await bench.first.own([3], {3: old}))[3]
    row = await head(bench.first)
    assert not await bench.first.claim(row, old, new_id())
    assert await bench.first.claim(row, new, new_id())


async def test_an_epoch_that_nobody_raised_is_kept(bench: Bench) -> None:
    """A rebalance that leaves a partition where it was does not make its claims foreign."""
    held = await bench.first.own([3, 4], {})
    assert await bench.first.own([3, 4], held) == held
    await bench.second.own([4], {})
    again = await bench.first.own([3, 4], held)
    assert again[3] == held[3]
    assert again[4] > held[4]


async def test_what_was_taken_too_late_is_released_and_regained(bench: Bench) -> None:
    """Who is refused takes it back from nobody but who released it."""
    await bench.first.take_in([delivery()])
    held = await bench.first.own([3, 4], {})
    await bench.second.own([3, 4], {})
    assert await bench.first.own([3, 4], held, regain=True) == held
    await bench.second.release([3])
    again = await bench.first.own([3, 4], held, regain=True)
    assert (again[3] > held[3], again[4]) == (True, held[4])
    await bench.second.release([3])
    assert await bench.first.own([3], again) == {3: again[3]}
    row = await head(bench.first)
    assert not await bench.first.claim(row, held[3], new_id())
    assert await bench.first.claim(row, again[3], new_id())


async def test_many_takeovers_at_once_leave_one_owner(bench: Bench) -> None:
    """However many takeovers race, exactly one epoch can claim."""
    await bench.first.take_in([delivery()])
    row = await head(bench.first)
    epochs = await asyncio.gather(
        *(ledger.own([3], {}) for ledger in [bench.first, bench.second] * 10)
    )
    assert len({epoch[3] for epoch in epochs}) == 20
    claims = [
        await ledger.claim(row, epoch[3], new_id())
        for ledger, epoch in zip([bench.first, bench.second] * 10, epochs, strict=True)
    ]
    assert claims.count(True) == 1


async def test_a_foreign_claim_is_respected_until_its_bound(bench: Bench) -> None:
    """A successor sees how long to wait; then the outcome is unknown and the lane goes on."""
    _, attempt = await bench.claimed()
    await bench.second.own([3], {})
    row = await head(bench.second)
    assert row.state == "sending"
    assert 0 < row.wait_s <= CLAIM_BOUND_S
    await bench.age(CLAIM_BOUND_S)
    row = await head(bench.second)
    assert row.wait_s == 0
    _, report, _ = await bench.outcomes.unanswered(row, attempt, Reason("sender_lost", "Lost."))
    assert report is not None
    assert report.status is Status.UNKNOWN
    assert await bench.second.head(LANE) is None


async def test_a_late_result_is_evidence(bench: Bench) -> None:
    """The answer that a zombie reads at last settles what its successor called unknown."""
    row, attempt = await bench.claimed()
    await bench.second.own([3], {})
    await bench.outcomes.unanswered(row, attempt, Reason("sender_lost", "Lost."))
    _, report, _ = await bench.outcomes.accepted(row, attempt, "p1")
    assert report is not None
    assert report.status is Status.SENT
    assert await bench.outcomes.give_up([3], 0) == []


async def test_giving_up_is_reported_and_corrected_by_late_evidence(bench: Bench) -> None:
    """Silence past the deadline fails the delivery; a status that comes later still counts."""
    row, attempt = await bench.claimed()
    await bench.outcomes.unanswered(row, attempt, Reason("no_answer", "Reset."))
    await bench.age(10)
    assert await bench.outcomes.give_up([3], 60) == []
    ((_, report, _),) = await bench.outcomes.give_up([3], 5)
    assert report is not None
    assert report.reason is not None
    assert report.reason.code == OUTCOME_UNKNOWN
    placed = await bench.evidence.place("main", [status(row, attempt, Status.DELIVERED)])
    assert [record.status for record in placed] == [Status.DELIVERED]
    state = await bench.pool.fetchval(
        "select state from ledger.delivery where message_id = $1", row.message_id
    )
    assert state == "sent"


async def test_an_echo_settles_an_unknown_outcome(bench: Bench) -> None:
    """A status with our reference proves the send; a failed one proves the failure."""
    for kind, state in ((Status.SENT, "sent"), (Status.FAILED, "failed")):
        row, attempt = await bench.claimed()
        await bench.outcomes.unanswered(row, attempt, Reason("no_answer", "Reset."))
        update = status(row, attempt, kind, provider_id=f"p-{kind}", reason=Reason("c", "d"))
        placed = await bench.evidence.place("main", [update])
        assert placed[0].message_id == row.message_id
        assert state == await bench.pool.fetchval(
            "select state from ledger.delivery where message_id = $1", row.message_id
        )


async def test_a_status_before_its_answer_is_not_stuck(bench: Bench) -> None:
    """A status without a reference waits for the answer that says whose it is, and comes out."""
    row, attempt = await bench.claimed()
    early = status(row, attempt, Status.READ, reference=None)
    assert await bench.evidence.place("main", [early]) == []
    _, _, parked = await bench.outcomes.accepted(row, attempt, early.provider_id)
    assert [waiting.status for waiting in parked] == [Status.READ]
    placed = await bench.evidence.place("main", [early])
    assert [record.message_id for record in placed] == [row.message_id]


async def test_a_status_with_a_strangers_reference_is_parked(bench: Bench) -> None:
    """What other software sent through the same account is nobody's here."""
    row, attempt = await bench.claimed()
    for reference in ("not ours", str(uuid4()), status(delivery(), attempt).reference):
        update = status(row, attempt, provider_id="foreign", reference=reference)
        assert await bench.evidence.place("main", [update]) == []


async def test_a_put_back_row_waits_and_counts_its_attempts(bench: Bench) -> None:
    """An attempt that was free is not counted, one that was not is."""
    row, attempt = await bench.claimed()
    await bench.first.put_back(row, attempt, wait_s=30)
    back = await head(bench.first)
    assert (back.state, back.attempts) == ("pending", 0)
    assert 25 < back.wait_s <= 30


async def test_a_result_of_another_attempt_changes_nothing(bench: Bench) -> None:
    """Only the attempt that holds the claim may fail it or put it back."""
    row, _ = await bench.claimed()
    stranger = new_id()
    assert (await bench.outcomes.refused(row, stranger, Reason("c", "d"))).report is None
    assert (await bench.outcomes.unanswered(row, stranger, Reason("c", "d"))).report is None
    await bench.first.put_back(row, stranger, wait_s=0, failure=Reason("c", "d"))
    assert (await head(bench.first)).state == "sending"


async def test_what_was_not_reported_is_found_by_the_next_owner(bench: Bench) -> None:
    """A result stored before a crash is told by the successor, once."""
    row, attempt = await bench.claimed()
    await bench.outcomes.accepted(row, attempt, "p1")
    ((_, report, _),) = await bench.outcomes.unreported([3])
    assert report is not None
    assert report.message_id == row.message_id
    await bench.outcomes.mark_reported([report])
    assert await bench.outcomes.unreported([3]) == []


async def test_replies_are_translated_both_ways(bench: Bench) -> None:
    """A customer's reply names our message, and our reply names theirs."""
    row, attempt = await bench.claimed()
    await bench.outcomes.accepted(row, attempt, "p1")
    inbound = InboundMessage(
        provider_id="p2", address="55", at=NOW, content="sim", reply_to_provider_id="p1"
    )
    assert await bench.evidence.name_inbound("main", [inbound]) == {"p1": row.message_id}
    theirs = inbound_id(bench.channel, "main", "p2")
    assert await bench.first.provider_id_of(theirs, row) == "p2"


async def test_lanes_that_wait_longest_come_first(bench: Bench) -> None:
    """So many of each account as are wanted: a backlog of one hides no lane of another."""
    lanes = [uuid4() for _ in range(4)]
    accounts = ["main", "main", "main", "second"]
    for _ in range(2):
        await bench.first.take_in(
            [
                delivery(conversation_id=conversation, account=account)
                for conversation, account in zip(lanes, accounts, strict=True)
            ]
        )
    found = await bench.first.lanes(LANE.partition, 2)
    assert [(one.conversation_id, account) for one, account in found] == [
        (lanes[0], "main"),
        (lanes[1], "main"),
        (lanes[3], "second"),
    ]
    found = await bench.first.lanes(LANE.partition, 2, "second")
    assert [one.conversation_id for one, _ in found] == [lanes[3]]
