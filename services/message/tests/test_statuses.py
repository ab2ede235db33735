"""Evidence in any order, repeated and late, leads to one state."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.records import Reason, StatusChanged
from services.contracts.status import OUTCOME_UNKNOWN, Status, aggregate, rank
from services.message.messages import Direction, Message
from services.message.statuses import HISTORY_LENGTH_MAX, fold, pending, targets

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MESSAGE, CONVERSATION, SENDER, ANNA, BERT, NOBODY = (UUID(int=number) for number in range(1, 7))
CHANNEL = "WHATSAPP"


def message(*recipients: UUID) -> Message:
    """Return a message of which nothing is known yet."""
    return Message(
        id=MESSAGE,
        conversation_id=CONVERSATION,
        seq=1,
        direction=Direction.OUTBOUND,
        sender_id=SENDER,
        channel=CHANNEL,
        accepted_at=START,
        status=Status.PENDING,
        rev=1,
        content="hello",
        deliveries=tuple(pending(recipient, CHANNEL, START) for recipient in recipients),
    )


def learned(
    status: Status,
    *,
    recipient: UUID = ANNA,
    second: int = 0,
    code: str | None = None,
    replay_no: int = 0,
) -> StatusChanged:
    """Return evidence about a delivery."""
    at = START + timedelta(seconds=second)
    return StatusChanged(
        message_id=MESSAGE,
        conversation_id=CONVERSATION,
        recipient_id=recipient,
        channel=CHANNEL,
        status=status,
        at=at,
        observed_at=at + timedelta(milliseconds=5),
        reason=Reason(code, "because") if code else None,
        replay_no=replay_no,
    )


EVIDENCE = st.builds(
    learned,
    st.sampled_from(Status),
    recipient=st.sampled_from([ANNA, BERT]),
    second=st.integers(0, 20),
    code=st.sampled_from([None, "blocked", OUTCOME_UNKNOWN]),
    replay_no=st.integers(0, 2),
)


@given(st.data(), st.lists(EVIDENCE, max_size=12))
def test_any_order_repetition_and_grouping_ends_in_the_same_state(
    data: st.DataObject, evidence: list[StatusChanged]
) -> None:
    """What was learned counts, not when, how often or together with what."""
    at_once = fold(message(ANNA, BERT), evidence)
    again = data.draw(st.lists(st.sampled_from(evidence), max_size=6)) if evidence else []
    shuffled = data.draw(st.permutations(evidence + again))
    bit_by_bit = message(ANNA, BERT)
    while shuffled:
        size = data.draw(st.integers(1, len(shuffled)))
        bit_by_bit, shuffled = fold(bit_by_bit, shuffled[:size]), shuffled[size:]
    assert bit_by_bit.deliveries == at_once.deliveries
    assert bit_by_bit.status == at_once.status


@given(st.lists(EVIDENCE, max_size=12))
def test_the_state_is_the_maximum_of_the_evidence(evidence: list[StatusChanged]) -> None:
    """A delivery stands where its highest evidence puts it, the message at its aggregate."""
    folded = fold(message(ANNA, BERT), evidence)
    for delivery in folded.deliveries:
        mine = [one for one in evidence if one.recipient_id == delivery.recipient_id]
        heights = [
            (one.replay_no, rank(one.status, one.reason.code if one.reason else None))
            for one in mine
        ]
        code = delivery.reason.code if delivery.reason else None
        assert (delivery.replay_no, rank(delivery.status, code)) == max([(0, 0), *heights])
        assert {one.status for one in mine} <= {entry.status for entry in delivery.history}
    assert folded.status == aggregate(delivery.status for delivery in folded.deliveries)


@given(st.lists(EVIDENCE, min_size=1, max_size=6))
def test_a_repetition_changes_nothing(evidence: list[StatusChanged]) -> None:
    """Evidence that is known already leaves the very same message, so nothing is written."""
    once = fold(message(ANNA, BERT), evidence)
    assert fold(once, evidence) is once


@pytest.mark.parametrize(
    ("label", "evidence", "status"),
    [
        ("nothing", [], Status.PENDING),
        ("the usual way", [Status.SENT, Status.DELIVERED, Status.READ], Status.READ),
        ("backwards", [Status.READ, Status.DELIVERED, Status.SENT], Status.READ),
        ("unknown, then evidence", [Status.UNKNOWN, Status.SENT], Status.SENT),
        ("sent, then unknown", [Status.SENT, Status.UNKNOWN], Status.SENT),
        ("failed after sent", [Status.SENT, Status.FAILED], Status.FAILED),
        ("delivered after all", [Status.FAILED, Status.DELIVERED], Status.DELIVERED),
    ],
)
def test_one_delivery(label: str, evidence: Sequence[Status], status: Status) -> None:
    """A single delivery is the message."""
    assert fold(message(ANNA), [learned(one) for one in evidence]).status is status, label


def test_a_delivery_given_up_without_evidence_is_corrected() -> None:
    """FAILED because nobody knows gives way to SENT, FAILED for a reason does not."""
    given_up = fold(message(ANNA), [learned(Status.FAILED, code=OUTCOME_UNKNOWN)])
    assert given_up.status is Status.FAILED
    assert fold(given_up, [learned(Status.SENT)]).status is Status.SENT
    refused = fold(message(ANNA), [learned(Status.FAILED, code="blocked")])
    assert fold(refused, [learned(Status.SENT)]).status is Status.FAILED


def test_a_late_delivered_only_fills_its_time() -> None:
    """DELIVERED behind READ leaves READ and is found in the history with its own time."""
    read = fold(message(ANNA), [learned(Status.READ, second=9)])
    late = fold(read, [learned(Status.DELIVERED, second=4)])
    (delivery,) = late.deliveries
    assert (delivery.status, delivery.updated_at) == (Status.READ, START + timedelta(seconds=9))
    assert {entry.status: entry.at for entry in delivery.history}[
        Status.DELIVERED
    ] == START + timedelta(seconds=4)
    assert late.rev == read.rev + 1


def test_a_replay_begins_anew() -> None:
    """Evidence of a later replay counts more than any of an earlier one."""
    failed = fold(message(ANNA), [learned(Status.FAILED, code="blocked")])
    replayed = fold(failed, [learned(Status.PENDING, replay_no=1)])
    assert (replayed.status, replayed.deliveries[0].reason) == (Status.PENDING, None)
    assert fold(replayed, [learned(Status.READ)]).status is Status.PENDING


def test_the_slowest_of_several_deliveries_decides() -> None:
    """A message is as far as the last of its deliveries that did not fail."""
    both = message(ANNA, BERT)
    one = fold(both, [learned(Status.READ)])
    assert one.status is Status.PENDING
    assert fold(one, [learned(Status.FAILED, recipient=BERT)]).status is Status.READ
    assert (
        fold(both, [learned(Status.FAILED), learned(Status.FAILED, recipient=BERT)]).status
        is Status.FAILED
    )


def test_evidence_about_nobody_changes_nothing() -> None:
    """A recipient that the message does not have is left out."""
    before = message(ANNA)
    assert fold(before, [learned(Status.SENT, recipient=NOBODY)]) is before
    assert (NOBODY, CHANNEL) not in targets(before)


def test_a_history_is_bounded_and_keeps_what_decides() -> None:
    """Endless replays push out the lowest evidence only."""
    many = [learned(Status.SENT, replay_no=number) for number in range(HISTORY_LENGTH_MAX + 9)]
    (delivery,) = fold(message(ANNA), many).deliveries
    assert len(delivery.history) == HISTORY_LENGTH_MAX
    assert delivery.replay_no == HISTORY_LENGTH_MAX + 8
