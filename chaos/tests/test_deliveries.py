"""The checker finds exactly what is wrong with a history, and nothing in a clean one."""

from collections.abc import Callable
from random import Random
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.checkers.deliveries import judge
from chaos.history import FinalState, Outcome, Receipt, Send

replace = msgspec.structs.replace
PROMISES = ("lost", "doubled", "reordered", "unexpected")


def history(lanes: int, messages: int) -> tuple[list[Send], list[Receipt]]:
    """Return a clean run: every message acknowledged before the next and received in order."""
    sends: list[Send] = []
    receipts: list[Receipt] = []
    for sequence in range(messages):
        for lane in range(lanes):
            at = float(sequence)
            text = f"{lane} {sequence}"
            sends.append(
                Send(
                    message_id=uuid4(),
                    lane=str(lane),
                    sequence=sequence,
                    content=text,
                    invoked_at=at,
                    returned_at=at + 0.5,
                    outcome=Outcome.OK,
                    answer="202",
                )
            )
            seq = len(receipts) + 1
            receipts.append(
                Receipt(seq=seq, received_at=at, answered_at=at, to=str(lane), text=text, kept=True)
            )
    return sends, receipts


@given(st.integers(1, 5), st.integers(2, 10))
def test_a_clean_history_is_clean(lanes: int, messages: int) -> None:
    """Nothing is found where nothing is wrong."""
    sends, receipts = history(lanes, messages)
    judgement = judge(sends, receipts, {})
    assert judgement.kept
    assert judgement.delivered == lanes * messages


Mutation = Callable[[list[Send], list[Receipt]], None]


def drop(_sends: list[Send], receipts: list[Receipt]) -> None:
    """Lose a message."""
    del receipts[3]


def double(_sends: list[Send], receipts: list[Receipt]) -> None:
    """Let the provider keep a message twice."""
    receipts.append(replace(receipts[3], seq=len(receipts) + 1))


def swap(_sends: list[Send], receipts: list[Receipt]) -> None:
    """Let two messages of a lane arrive the wrong way round."""
    first, second = receipts[0], receipts[2]
    receipts[0], receipts[2] = replace(second, seq=first.seq), replace(first, seq=second.seq)


def invent(_sends: list[Send], receipts: list[Receipt]) -> None:
    """Let the provider receive what nobody sent."""
    receipts.append(replace(receipts[3], seq=len(receipts) + 1, text="nobody's"))


@pytest.mark.parametrize(
    ("mutate", "found"),
    [(drop, "lost"), (double, "doubled"), (swap, "reordered"), (invent, "unexpected")],
)
def test_each_mistake_is_found_for_its_own_reason(mutate: Mutation, found: str) -> None:
    """A history with one mistake fails with that mistake and no other."""
    sends, receipts = history(lanes=2, messages=4)
    mutate(sends, receipts)
    judgement = judge(sends, receipts, {})
    assert not judgement.kept
    assert [name for name in PROMISES if getattr(judgement, name)] == [found]


@given(st.integers(1, 4), st.integers(2, 8), st.randoms(use_true_random=False))
def test_a_mistake_anywhere_is_found_exactly(lanes: int, messages: int, dice: Random) -> None:
    """Whatever message is dropped, doubled or swapped is the one that is named."""
    sends, receipts = history(lanes, messages)
    lane, sequence = dice.randrange(lanes), dice.randrange(messages - 1)
    place = sequence * lanes + lane
    send = sends[place]
    doubled = [*receipts, replace(receipts[place], seq=len(receipts) + 1)]
    assert judge(sends, doubled, {}).doubled == [send.content]
    assert judge(sends, doubled, {}).repeated == 1
    dropped = receipts[:place] + receipts[place + 1 :]
    assert judge(sends, dropped, {}).lost == [send.message_id]
    swapped = [*receipts]
    later = receipts[place + lanes]
    swapped[place] = replace(later, seq=receipts[place].seq)
    swapped[place + lanes] = replace(receipts[place], seq=later.seq)
    assert judge(sends, swapped, {}).reordered == [(str(lane), sequence, sequence + 1)]


def test_a_message_that_may_exist_is_neither_lost_nor_unexpected() -> None:
    """A timeout is no promise: the message may be received or not."""
    sends, receipts = history(lanes=2, messages=4)
    sends[3] = replace(sends[3], outcome=Outcome.INFO)
    assert judge(sends, receipts, {}).kept
    assert judge(sends, receipts[:3] + receipts[4:], {}).kept


def test_concurrent_messages_have_no_order() -> None:
    """A message sent before the other was acknowledged may overtake it."""
    sends, receipts = history(lanes=2, messages=4)
    swap(sends, receipts)
    sends[0] = replace(sends[0], returned_at=99.0)
    assert judge(sends, receipts, {}).kept


@pytest.mark.parametrize(
    ("state", "is_lost"),
    [
        (FinalState(status="UNKNOWN"), False),
        (FinalState(status="FAILED", reason="outcome_unknown"), False),
        (FinalState(status="PENDING"), True),
        (FinalState(status="SENT"), True),
        (FinalState(status="FAILED", reason="provider_131026"), True),
    ],
)
def test_only_a_visible_unknown_excuses_a_missing_receipt(
    state: FinalState, *, is_lost: bool
) -> None:
    """A message without a receipt is lost unless the API says that its outcome is unknown."""
    sends, receipts = history(lanes=2, messages=4)
    del receipts[3]
    judgement = judge(sends, receipts, {sends[3].message_id: state})
    assert bool(judgement.lost) is is_lost
    assert bool(judgement.open) is not is_lost
