"""What has arrived, what is under way, and what is accounted for although it never arrives."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast
from uuid import UUID, uuid4

import aiohttp
import msgspec
import pytest

from chaos.accounting import ASKED_MAX, Accounting
from chaos.adapters.api import Api
from chaos.adapters.observers import Observers
from chaos.health import Health
from chaos.history import FinalState, Outcome, Receipt, Send
from chaos.pulse import Pulse, Witness
from chaos.workload import Workload

replace = msgspec.structs.replace
PATIENCE_S = 2.0
RUN = "run"


class Played:
    """Plays the load, its receipts and the API at a time that is set."""

    def __init__(self) -> None:
        self.run_id = RUN
        self.sends: list[Send] = []
        self.now = 0.0
        self.states: dict[UUID, FinalState] = {}
        self.asked: list[UUID] = []
        self._fresh: list[Receipt] = []
        self._count = 0

    def send(self, outcome: Outcome = Outcome.OK) -> Send:
        """Send a message now."""
        sent = Send(
            message_id=uuid4(),
            lane="lane",
            sequence=len(self.sends),
            content=f"{RUN} lane {len(self.sends)}",
            invoked_at=self.now,
            returned_at=self.now,
            outcome=outcome,
            answer="202",
        )
        self.sends.append(sent)
        return sent

    def keep(self, text: str, *, kept: bool = True) -> None:
        """Let the provider be asked to take a message now."""
        self._count += 1
        self._fresh.append(
            Receipt(
                seq=self._count,
                received_at=self.now,
                answered_at=self.now,
                to="1",
                text=text,
                kept=kept,
            )
        )

    async def catch_up(self) -> list[Receipt]:
        """Return the receipts that are new."""
        fresh, self._fresh = self._fresh, []
        return fresh

    async def final_states(self, message_ids: Sequence[UUID]) -> dict[UUID, FinalState]:
        """Answer for those whose state was set."""
        self.asked += message_ids
        return {one: self.states[one] for one in message_ids if one in self.states}


@pytest.fixture
def played() -> Played:
    """Lend a load."""
    return Played()


@pytest.fixture
def pulse(played: Played) -> Pulse:
    """Lend the pulse of it."""
    witness = cast("Witness", played)
    return Pulse(cast("Workload", played), [witness], lambda _lane: 7, lambda: played.now)


@pytest.fixture
def accounting(played: Played, pulse: Pulse) -> Accounting:
    """Lend what asks for the missing."""
    return Accounting(cast("Api", played), pulse, PATIENCE_S)


async def test_who_cannot_be_read_hides_nobody_else(played: Played) -> None:
    """What another witness saw is taken in, and then it is told that one was not read."""

    async def away() -> list[Receipt]:
        raise aiohttp.ClientPayloadError

    unread = cast("Witness", SimpleNamespace(catch_up=away))
    witnesses = [unread, cast("Witness", played)]
    pulse = Pulse(cast("Workload", played), witnesses, lambda _lane: 7, lambda: played.now)
    played.keep(played.send().content)
    with pytest.raises(aiohttp.ClientPayloadError):
        await pulse.beat()
    assert (pulse.acknowledged, pulse.delivered, pulse.unseen) == (1, 1, 0)


async def test_what_arrives_is_counted_once(played: Played, pulse: Pulse) -> None:
    """A receipt may come before the answer or after it, twice, or for another load."""
    first, second = played.send(), played.send()
    await pulse.beat()
    assert (pulse.acknowledged, pulse.delivered, pulse.unseen) == (2, 0, 2)
    played.now = 1.0
    for text in (first.content, first.content, "other lane 0", f"{RUN} lane 2"):
        played.keep(text)
    played.keep(second.content, kept=False)
    await pulse.beat()
    assert (pulse.delivered, pulse.unseen, pulse.p99_s()) == (1, 1, 1.0)
    early = played.send()
    assert early.content == f"{RUN} lane 2"
    await pulse.beat()
    assert (pulse.delivered, pulse.unseen) == (2, 1)
    assert pulse.delivered_until == {7: 1.0}


async def test_a_refused_message_is_not_waited_for(played: Played, pulse: Pulse) -> None:
    """What was not answered 202 is under way for nobody, also when it arrives."""
    refused = played.send(Outcome.INFO)
    played.keep(refused.content)
    await pulse.beat()
    assert (pulse.refused, pulse.acknowledged, pulse.delivered, pulse.unseen) == (1, 0, 0, 0)


STATES = [
    (FinalState(status="UNKNOWN"), True),
    (FinalState(status="FAILED", reason="outcome_unknown"), True),
    (FinalState(status="FAILED", reason="provider_131026"), False),
    (FinalState(status="PENDING"), False),
    (FinalState(status="SENT"), False),
    (FinalState(status="HTTP 404"), False),
    (None, False),
]


@pytest.mark.parametrize(("state", "accounted"), STATES)
async def test_only_a_visible_unknown_is_accounted(
    played: Played,
    pulse: Pulse,
    accounting: Accounting,
    state: FinalState | None,
    *,
    accounted: bool,
) -> None:
    """A message that never arrives is overdue, until the API shows that nobody knows of it."""
    sent = played.send()
    if state is not None:
        played.states[sent.message_id] = state
    await pulse.beat()
    played.now = PATIENCE_S + 0.1
    await accounting.ask()
    assert played.asked == [sent.message_id]
    assert len(pulse.overdue(PATIENCE_S)) == pulse.unseen == (not accounted)
    assert pulse.delivered == 0


async def test_what_was_accounted_for_may_still_arrive(
    played: Played, pulse: Pulse, accounting: Accounting
) -> None:
    """Late evidence turns an unknown outcome into a delivery, and no count goes below zero."""
    sent = played.send()
    played.states[sent.message_id] = FinalState(status="UNKNOWN")
    await pulse.beat()
    played.now = 9.0
    await accounting.ask()
    played.keep(sent.content)
    await pulse.beat()
    assert (pulse.delivered, pulse.unseen) == (1, 0)
    pulse.account(sent)
    assert pulse.unseen == 0


async def test_all_that_is_overdue_is_asked_for_in_turn(
    played: Played, pulse: Pulse, accounting: Accounting
) -> None:
    """However many stay pending, those behind them get their turn, and what is young is spared."""
    sends = [played.send() for _ in range(ASKED_MAX + 10)]
    played.states[sends[-1].message_id] = FinalState(status="UNKNOWN")
    played.now = PATIENCE_S + 0.1
    young = played.send()
    await pulse.beat()
    await accounting.ask()
    assert len(played.asked) == ASKED_MAX
    await accounting.ask()
    assert set(played.asked) == {send.message_id for send in sends}
    assert young.message_id not in played.asked
    assert pulse.unseen == len(sends)


async def test_the_platform_is_well_again_when_the_rest_is_accounted_for(
    played: Played, pulse: Pulse, accounting: Accounting
) -> None:
    """Deliveries flow; one message stays unknown, and that alone is no illness; a loss is."""
    nobody = SimpleNamespace(passing={}, groups={})
    health = Health(cast("Observers", nobody), {}, {}, pulse, PATIENCE_S)
    unknown, lost = played.send(), played.send()
    played.now = 5.0
    played.keep(played.send().content)
    await pulse.beat()
    assert health.ill() == "2 messages are overdue"
    played.states = {
        unknown.message_id: FinalState(status="UNKNOWN"),
        lost.message_id: FinalState(status="PENDING"),
    }
    await accounting.ask()
    assert health.ill() == "1 messages are overdue"
    played.states[lost.message_id] = FinalState(status="FAILED", reason="outcome_unknown")
    await accounting.ask()
    assert health.ill() is None
