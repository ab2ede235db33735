"""Evidence on a real PostgreSQL: replays, parts, statuses of attempts that count no more."""

import asyncio
from itertools import permutations

import pytest

from services.connectors.base import StatusUpdate
from services.connectors.ledger import CLAIM_BOUND_S
from services.connectors.outcomes import EARLIER_PART_FAILED
from services.connectors.rows import Row
from services.connectors.tests.bench import LANE, LOST, NOW, Bench, delivery, head, parts, status
from services.contracts.ids import new_id
from services.contracts.records import Reason
from services.contracts.status import OUTCOME_UNKNOWN, Status

pytestmark = pytest.mark.connected

FATAL = Reason("fatal", "Never.")


def again(row: Row, replay_no: int = 1) -> Row:
    """Return the row as the record of its replay has it."""
    return delivery(
        message_id=row.message_id,
        recipient_id=row.recipient_id,
        part=row.part,
        parts=row.parts,
        content=row.content,
        replay_no=replay_no,
    )


def named(provider_id: str, kind: Status) -> StatusUpdate:
    """Return a status that has no reference."""
    reason = Reason("code", "Detail.") if kind is Status.FAILED else None
    return StatusUpdate(provider_id=provider_id, status=kind, at=NOW, reason=reason)


async def failed(bench: Bench) -> tuple[Row, object]:
    """Have a delivery that the provider refused."""
    row, attempt = await bench.claimed(delivery())
    await bench.tell(await bench.outcomes.refused(row, attempt, FATAL))
    return row, attempt


async def test_a_replay_stands_at_the_tail_and_counts_anew(bench: Bench) -> None:
    """It goes out behind what came meanwhile, with all its attempts."""
    row, _ = await failed(bench)
    later = delivery()
    await bench.first.take_in([later])
    key = (row.message_id, row.recipient_id, 0)
    assert set(await bench.first.take_in([again(row)])) == {key}
    assert not await bench.first.take_in([again(row)])
    assert not await bench.first.take_in([row])
    sent, _ = await bench.sent()
    assert sent.message_id == later.message_id
    replayed, attempt = await bench.claimed()
    assert (replayed.message_id, replayed.replay_no, replayed.attempts) == (row.message_id, 1, 0)
    await bench.tell(await bench.outcomes.accepted(replayed, attempt, "p"))
    await bench.hear(named("p", Status.DELIVERED))
    assert bench.users.sees(row) == (1, Status.DELIVERED, None)


async def test_only_what_failed_is_replayed(bench: Bench) -> None:
    """A delivery that is out, or on its way, is not sent again."""
    row, _ = await bench.sent()
    assert not await bench.first.take_in([again(row)])
    lost, _ = await bench.lost(delivery())
    assert not await bench.first.take_in([again(lost)])
    assert await bench.first.head(LANE) is None


@pytest.mark.parametrize("linked", [True, False])
async def test_what_the_provider_failed_later_can_be_replayed(bench: Bench, linked: bool) -> None:  # noqa: FBT001
    """A failure that a webhook brings is one of the ledger too."""
    row, attempt = await (bench.sent() if linked else bench.lost())
    await bench.hear(status(row, attempt, Status.FAILED))
    assert bench.users.sees(row) == (0, Status.FAILED, "code")
    assert len(await bench.first.take_in([again(row)])) == 1
    await bench.sent()
    assert bench.users.sees(row) == (1, Status.SENT, None)


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("kind", [Status.FAILED, Status.SENT])
async def test_stale_evidence_does_not_touch_a_replay(
    bench: Bench,
    linked: bool,  # noqa: FBT001
    kind: Status,
) -> None:
    """That the earlier attempt was taken, or failed, is known: the replay is sent."""
    row, attempt = await (bench.sent() if linked else bench.lost())
    await bench.hear(status(row, attempt, Status.FAILED))
    await bench.first.take_in([again(row)])
    await bench.hear(status(row, attempt, kind))
    assert await bench.state(row) == "pending"
    await bench.sent()
    await bench.hear(status(row, attempt, kind))
    assert bench.users.sees(row) == (1, Status.SENT, None)
    assert await bench.state(row) == "sent"


async def test_late_evidence_spares_a_replay(bench: Bench) -> None:
    """Given up, replayed, and only then the provider says that it has it: it is not sent again."""
    row, attempt = await bench.lost()
    await bench.outcomes.give_up([3], 0)
    await bench.first.take_in([again(row)])
    await bench.hear(status(row, attempt, Status.SENT))
    assert await bench.first.head(LANE) is None
    assert bench.users.sees(row) == (1, Status.SENT, None)


@pytest.mark.parametrize("kind", [Status.SENT, Status.DELIVERED, Status.READ])
async def test_evidence_for_a_pending_row_prevents_a_resend(bench: Bench, kind: Status) -> None:
    """An attempt that was put back after all had effect, as its status shows."""
    row, attempt = await bench.claimed(delivery(at_least_once=True))
    epoch = (await bench.first.own([3], {}))[3]
    assert await bench.first.put_back(row, attempt, wait_s=0, failure=LOST)
    pending = await head(bench.first)
    await bench.hear(status(row, attempt, kind))
    assert await bench.first.head(LANE) is None
    assert not await bench.first.claim(pending, epoch, new_id())
    assert bench.users.sees(row) == (0, kind, None)


async def test_a_late_answer_prevents_a_resend(bench: Bench) -> None:
    """So does the answer that a zombie reads at last."""
    row, attempt = await bench.claimed(delivery(at_least_once=True))
    assert await bench.first.put_back(row, attempt, wait_s=0, failure=LOST)
    await bench.tell(await bench.outcomes.accepted(row, attempt, "p"))
    assert await bench.first.head(LANE) is None
    await bench.hear(named("p", Status.READ))
    assert bench.users.sees(row) == (0, Status.READ, None)


@pytest.mark.parametrize("order", list(permutations([Status.FAILED, Status.SENT])))
async def test_an_earlier_attempts_failure_leaves_the_row_to_the_next(
    bench: Bench, order: tuple[Status, ...]
) -> None:
    """That the provider took it and failed it ends nothing, in whichever order that is told."""
    row, first = await bench.claimed(delivery(at_least_once=True))
    assert await bench.first.put_back(row, first, wait_s=0, failure=LOST)
    await bench.claimed()
    if order[0] is Status.FAILED:
        await bench.hear(*(status(row, first, kind) for kind in order))
        assert await bench.state(row) == "sending"
        assert bench.users.sees(row) is None
    else:
        await bench.hear(*(status(row, first, kind) for kind in order))
        assert bench.users.sees(row) == (0, Status.FAILED, "code")
        assert len(await bench.first.take_in([again(row)])) == 1


async def test_who_got_an_earlier_attempt_has_it(bench: Bench) -> None:
    """Both attempts of a delivery had effect: what is told of the first counts too."""
    row, first = await bench.claimed(delivery(at_least_once=True))
    assert await bench.first.put_back(row, first, wait_s=0, failure=LOST)
    await bench.sent()
    await bench.hear(status(row, first, Status.FAILED))
    assert bench.users.sees(row) == (0, Status.SENT, None)
    await bench.hear(status(row, first, Status.DELIVERED))
    assert bench.users.sees(row) == (0, Status.DELIVERED, None)


async def test_who_got_what_failed_before_is_spared_the_next_attempt(bench: Bench) -> None:
    """The provider takes a failure back: the row that waits for its next attempt is settled."""
    row, first = await bench.claimed(delivery(at_least_once=True))
    assert await bench.first.put_back(row, first, wait_s=0, failure=LOST)
    await bench.hear(status(row, first, Status.FAILED))
    assert await bench.state(row) == "pending"
    await bench.hear(status(row, first, Status.DELIVERED))
    assert await bench.first.head(LANE) is None
    assert bench.users.sees(row) == (0, Status.DELIVERED, None)


async def test_a_late_answer_to_a_part_counts_for_the_replay_of_another(bench: Bench) -> None:
    """The delivery is as often replayed as any of its parts."""
    rows = parts("a", "b")
    await bench.first.take_in(rows)
    lost, attempt = await bench.lost()
    refused, other = await bench.claimed()
    await bench.tell(await bench.outcomes.refused(refused, other, FATAL))
    assert bench.users.sees(lost) == (0, Status.FAILED, "fatal")
    assert len(await bench.first.take_in([again(row) for row in rows])) == 1
    await bench.sent(name="p1")
    assert bench.users.sees(lost) == (1, Status.UNKNOWN, "no_answer")
    await bench.tell(await bench.outcomes.accepted(lost, attempt, "p0"))
    assert bench.users.sees(lost) == (1, Status.SENT, None)


async def test_a_refusal_that_comes_late_is_evidence(bench: Bench) -> None:
    """A zombie's certain failure settles what its successor called unknown."""
    row, attempt = await bench.lost()
    await bench.tell(await bench.outcomes.refused(row, attempt, FATAL))
    assert await bench.state(row) == "failed"
    assert bench.users.sees(row) == (0, Status.FAILED, "fatal")
    assert not await bench.first.put_back(row, attempt, wait_s=0)


async def test_a_lane_waits_for_a_claim_that_can_still_be_written(bench: Bench) -> None:
    """Behind an unknown outcome the next row waits for the claim's bound, and so does its own."""
    row, attempt = await bench.claimed()
    await bench.first.take_in([delivery(), delivery()])
    await bench.outcomes.unanswered(row, attempt, LOST)
    waiting = await head(bench.second)
    assert waiting.message_id != row.message_id
    assert CLAIM_BOUND_S - 2 < waiting.wait_s <= CLAIM_BOUND_S
    await bench.age(CLAIM_BOUND_S)
    assert (await head(bench.second)).wait_s == 0


async def test_parts_are_told_as_one(bench: Bench) -> None:
    """Sent when all are, delivered when all are, read when all are."""
    rows = parts("a", "b", "c")
    await bench.first.take_in(rows)
    for number in range(3):
        assert bench.users.sees(rows[0]) is None
        await bench.sent(name=f"p{number}")
    assert bench.users.sees(rows[0]) == (0, Status.SENT, None)
    await bench.hear(named("p0", Status.READ), named("p2", Status.DELIVERED))
    assert bench.users.sees(rows[0]) == (0, Status.SENT, None)
    await bench.hear(named("p1", Status.DELIVERED), named("p1", Status.SENT))
    assert bench.users.sees(rows[0]) == (0, Status.DELIVERED, None)
    await bench.hear(named("p1", Status.READ), named("p2", Status.READ))
    assert bench.users.sees(rows[0]) == (0, Status.READ, None)


async def test_early_statuses_of_parts_are_counted(bench: Bench) -> None:
    """What was read before its answer came is read when the last part is out."""
    rows = parts("a", "b")
    await bench.first.take_in(rows)
    await bench.hear(named("p0", Status.READ), named("p1", Status.READ))
    await bench.sent(name="p0")
    assert bench.users.sees(rows[0]) is None
    await bench.sent(name="p1")
    assert bench.users.sees(rows[0]) == (0, Status.READ, None)


@pytest.mark.parametrize("by", ["answer", "late answer", "webhook", "evidence"])
async def test_a_failed_part_fails_the_delivery_and_stops_the_later_ones(
    bench: Bench, by: str
) -> None:
    """However that is learned; a replay takes up again where it failed."""
    rows = parts("a", "b", "c", "d")
    await bench.first.take_in(rows)
    await bench.sent(name="p0")
    if by == "webhook":
        await bench.sent(name="p1")
        await bench.hear(named("p1", Status.FAILED))
    else:
        row, attempt = await (bench.claimed() if by == "answer" else bench.lost())
        if by == "evidence":
            await bench.hear(status(row, attempt, Status.FAILED))
        else:
            await bench.tell(await bench.outcomes.refused(row, attempt, FATAL))
    assert await bench.first.head(LANE) is None
    seen = bench.users.sees(rows[0])
    assert seen is not None
    assert seen[:2] == (0, Status.FAILED)
    assert seen[2] != EARLIER_PART_FAILED
    taken = await bench.first.take_in([again(row) for row in rows])
    assert sorted(part for _, _, part in taken) == [1, 2, 3]
    for number in (1, 2, 3):
        row, _ = await bench.sent(name=f"again{number}")
        assert row.content == rows[number].content
    assert bench.users.sees(rows[0]) == (1, Status.SENT, None)
    await bench.hear(*(named(f"again{number}", Status.READ) for number in (1, 2, 3)))
    await bench.hear(named("p0", Status.READ))
    assert bench.users.sees(rows[0]) == (1, Status.READ, None)


async def test_a_stale_failure_does_not_fail_a_replayed_part(bench: Bench) -> None:
    """A webhook that is repeated after the replay changes nothing."""
    rows = parts("a", "b")
    await bench.first.take_in(rows)
    await bench.sent(name="p0")
    await bench.sent(name="p1")
    await bench.hear(named("p1", Status.FAILED))
    await bench.first.take_in([again(row) for row in rows])
    await bench.hear(named("p1", Status.FAILED))
    await bench.sent(name="p2")
    await bench.hear(named("p1", Status.FAILED))
    assert bench.users.sees(rows[0]) == (1, Status.SENT, None)


@pytest.mark.parametrize("order", list(permutations([Status.FAILED, Status.DELIVERED])))
@pytest.mark.parametrize("count", [1, 2])
async def test_who_got_it_has_it(bench: Bench, order: tuple[Status, ...], count: int) -> None:
    """A failure beside a delivery is outranked, whichever is told first."""
    rows = parts(*"abc"[:count])
    await bench.first.take_in(rows)
    for number in range(count):
        await bench.sent(name=f"p{number}")
    for kind in order:
        await bench.hear(named("p0", kind))
    await bench.hear(*(named(f"p{number}", Status.DELIVERED) for number in range(1, count)))
    assert bench.users.sees(rows[0]) == (0, Status.DELIVERED, None)


async def test_an_unknown_part_is_settled_within_the_whole(bench: Bench) -> None:
    """The delivery is unknown until evidence comes, and then as far as its parts."""
    rows = parts("a", "b")
    await bench.first.take_in(rows)
    row, attempt = await bench.lost()
    assert bench.users.sees(row) == (0, Status.UNKNOWN, "no_answer")
    await bench.sent(name="p1")
    assert bench.users.sees(row) == (0, Status.UNKNOWN, "no_answer")
    await bench.hear(status(row, attempt, Status.DELIVERED), named("p1", Status.DELIVERED))
    assert bench.users.sees(row) == (0, Status.DELIVERED, None)


async def test_a_status_parked_without_a_reference_is_found_by_one_with(bench: Bench) -> None:
    """The first status that says whose the name is brings the others with it."""
    row, attempt = await bench.lost()
    await bench.hear(status(row, attempt, Status.READ, reference=None))
    assert bench.users.sees(row) == (0, Status.UNKNOWN, "no_answer")
    await bench.hear(status(row, attempt, Status.SENT))
    assert bench.users.sees(row) == (0, Status.READ, None)


async def test_a_status_counts_without_what_cannot_be_kept(bench: Bench) -> None:
    """A NUL in what it says is no reason to lose it, whether its message is known yet or not."""
    row, attempt = await bench.claimed(delivery())
    reason = Reason("code", "a\0b")
    await bench.hear(status(row, attempt, Status.FAILED, reason=reason, reference="some\0body's"))
    await bench.hear(status(row, attempt, Status.FAILED, reason=reason))
    assert bench.users.sees(row) == (0, Status.FAILED, "code")


async def test_what_a_crash_left_untold_is_told_with_its_early_statuses(bench: Bench) -> None:
    """The result is stored, nothing is told: the successor tells it, and what was parked."""
    row, attempt = await bench.claimed()
    await bench.hear(named("p", Status.READ))
    await bench.outcomes.accepted(row, attempt, "p")
    assert bench.users.sees(row) is None
    await bench.tell(*await bench.outcomes.unreported([3]))
    assert bench.users.sees(row) == (0, Status.READ, None)
    assert await bench.outcomes.unreported([3]) == []


async def test_what_nobody_claims_is_told_before_it_is_forgotten(bench: Bench) -> None:
    """Two instances may both tell it; what was added meanwhile is not lost."""
    await bench.hear(named("stranger", Status.SENT))
    assert await bench.evidence.unclaimed(60) == []
    (parked,) = await bench.evidence.unclaimed(0)
    assert [one.status for one in parked.statuses] == [Status.SENT]
    await bench.hear(named("stranger", Status.READ))
    await bench.evidence.forget([parked])
    (parked,) = await bench.evidence.unclaimed(0)
    assert [one.status for one in parked.statuses] == [Status.SENT, Status.READ]
    await bench.evidence.forget([parked])
    assert await bench.evidence.unclaimed(0) == []


async def test_statuses_of_what_others_sent_are_no_riddle(bench: Bench) -> None:
    """A person wrote through our account: their message was echoed, and is read."""
    await bench.echo("theirs")
    await bench.hear(named("theirs", Status.READ))
    (parked,) = await bench.evidence.unclaimed(0)
    assert parked.statuses == []
    await bench.evidence.forget([parked])
    assert await bench.evidence.unclaimed(0) == []


async def test_answers_and_statuses_at_once_do_not_lock_each_other_out(bench: Bench) -> None:
    """Webhooks that come while the answers are stored meet no deadlock."""
    for _ in range(10):
        rows = [delivery(conversation_id=new_id(), message_id=new_id()) for _ in range(30)]
        await bench.first.take_in(rows)
        epoch = (await bench.first.own([3], {}))[3]
        attempts = [new_id() for _ in rows]
        pairs = list(zip(rows, attempts, strict=True))
        await asyncio.gather(*(bench.first.claim(row, epoch, one) for row, one in pairs))
        await asyncio.gather(
            *(bench.outcomes.accepted(row, one, f"p-{one}") for row, one in pairs),
            *(bench.hear(status(row, one, Status.SENT)) for row, one in reversed(pairs)),
        )
        states = [await bench.state(row) for row in rows]
        assert states == ["sent"] * len(rows)


async def test_lack_of_evidence_is_a_failure_that_can_be_replayed(bench: Bench) -> None:
    """It is visible as such, and its replay is the next."""
    row, _ = await bench.lost()
    await bench.tell(*await bench.outcomes.give_up([3], 0))
    assert bench.users.sees(row) == (0, Status.FAILED, OUTCOME_UNKNOWN)
    assert len(await bench.first.take_in([again(row)])) == 1


async def test_a_reply_names_the_latest_replay_in_its_account(bench: Bench) -> None:
    """What the provider failed before is not what the customer has."""
    row, _ = await bench.sent(name="first")
    await bench.hear(named("first", Status.FAILED))
    await bench.first.take_in([again(row)])
    replayed, _ = await bench.sent(name="second")
    assert await bench.first.provider_id_of(row.message_id, replayed) == "second"
    elsewhere = delivery(account="other")
    assert await bench.first.provider_id_of(row.message_id, elsewhere) is None
