"""Receipts are held against what was sent."""

from uuid import UUID

import pytest

from chaos.history import Outcome, Receipt, Send
from scripts.bench.deliveries import delivery_of
from scripts.bench.figures import Delivery


def send(sequence: int, outcome: Outcome = Outcome.OK, lane: str = "a") -> Send:
    """Return a send that began with its sequence and was answered 10 ms later."""
    return Send(
        message_id=UUID(int=sequence),
        lane=lane,
        sequence=sequence,
        content=f"{lane} {sequence}",
        invoked_at=float(sequence),
        returned_at=sequence + 0.01,
        outcome=outcome,
        answer="",
    )


def receipt(seq: int, sequence: int, after_s: float, *, kept: bool = True) -> Receipt:
    """Return a receipt of lane a, so long after the send began."""
    at = sequence + after_s
    return Receipt(seq=seq, received_at=at, answered_at=at, to="1", text=f"a {sequence}", kept=kept)


def judged(sends: list[Send], receipts: list[Receipt], ended_at: float = 10.0) -> Delivery:
    """Return what became of sends through one channel."""
    return delivery_of(sends, {"PAGER": receipts}, ended_at, 0, 0.5)


def test_delivery_is_from_the_call_to_the_first_receipt() -> None:
    """Time runs from the call; attempts that kept nothing and later copies do not count."""
    found = judged(
        [send(0), send(1)],
        [receipt(1, 0, 0.05, kept=False), receipt(2, 0, 0.1), receipt(3, 1, 0.3), receipt(4, 1, 9)],
    )
    assert found.latency is not None
    assert found.latency.p50_ms == pytest.approx(100)
    assert found.latency.max_ms == pytest.approx(300)
    assert found.by_channel["PAGER"] == found.latency
    assert (found.lost, found.duplicated, found.reordered, found.backlog) == (0, 1, 0, 0)


def test_what_comes_after_the_end_was_backlog() -> None:
    """Messages received after the last answer, or never, were not worked off then."""
    found = judged([send(8), send(9)], [receipt(1, 8, 0.1)], ended_at=8.05)
    assert (found.backlog, found.lost) == (2, 1)


def test_without_receipts_everything_is_lost() -> None:
    """No receipt is no latency and a loss for every promise; refused messages were none."""
    found = judged([send(0), send(1), send(2, Outcome.FAIL)], [])
    assert (found.latency, found.by_channel, found.lost) == (None, {}, 2)


def test_an_unpromised_arrival_is_neither_lost_nor_timed() -> None:
    """What arrives although its answer was an error says nothing of deliveries."""
    found = judged([send(0), send(1, Outcome.INFO)], [receipt(1, 0, 0.1), receipt(2, 1, 5.0)])
    assert found.latency is not None
    assert found.latency.max_ms == pytest.approx(100)
    assert (found.lost, found.duplicated) == (0, 0)


def test_overtaking_is_counted() -> None:
    """A later message received before an earlier one was promised not to be."""
    found = judged([send(0), send(1)], [receipt(1, 1, 0.1), receipt(2, 0, 1.5)])
    assert found.reordered == 1
