"""Echoes on a real PostgreSQL: matched one to one, in order, and never with what came later."""

import asyncio

import pytest

from services.connectors.base import Echo, StatusUpdate
from services.connectors.tests.bench import LANE, LOST, NOW, Bench, delivery, parts
from services.contracts.status import OUTCOME_UNKNOWN, Status

pytestmark = pytest.mark.connected


async def test_an_echo_settles_the_send_that_lost_its_answer(bench: Bench) -> None:
    """Echoed again it settles nothing else."""
    first, _ = await bench.lost()
    second, _ = await bench.lost(delivery())
    for _ in range(3):
        await bench.echo("e1")
    assert bench.users.sees(first) == (0, Status.SENT, None)
    assert bench.users.sees(second) == (0, Status.UNKNOWN, "no_answer")
    assert await bench.state(second) == "unknown"


async def test_identical_texts_are_matched_one_to_one_in_order(bench: Bench) -> None:
    """As many echoes, as many sends; the first sent first."""
    rows = [(await bench.lost(delivery()))[0] for _ in range(4)]
    other, _ = await bench.lost(delivery(content="other"))
    for number in range(3):
        await bench.echo(f"e{number}")
        states = [await bench.state(row) for row in rows]
        assert states == ["sent"] * (number + 1) + ["unknown"] * (3 - number)
    assert await bench.state(other) == "unknown"
    await bench.hear(StatusUpdate(provider_id="e1", status=Status.READ, at=NOW))
    assert bench.users.sees(rows[1]) == (0, Status.READ, None)


async def test_many_echoes_at_once_settle_as_many_sends(bench: Bench) -> None:
    """Webhooks that come together, to several instances, do not take the same send twice."""
    rows = [(await bench.lost(delivery()))[0] for _ in range(8)]
    await asyncio.gather(*(bench.echo(f"e{number}") for number in range(8)))
    assert [await bench.state(row) for row in rows] == ["sent"] * 8


async def test_an_echo_before_the_answer_waits_for_it(bench: Bench) -> None:
    """It belongs to the answer of the same name, and settles nothing else."""
    unknown, _ = await bench.lost()
    row, attempt = await bench.claimed(delivery())
    await bench.echo("e2")
    assert await bench.state(unknown) == "unknown"
    await bench.tell(await bench.outcomes.accepted(row, attempt, "e2"))
    await bench.tell(*await bench.echoes.look())
    assert await bench.state(unknown) == "unknown"
    assert bench.users.sees(row) == (0, Status.SENT, None)
    await bench.echo("e1")
    assert bench.users.sees(unknown) == (0, Status.SENT, None)


async def test_an_echo_that_was_not_the_answers_is_looked_at_again(bench: Bench) -> None:
    """The other send's answer had another name: then the echo is of the one that lost its own."""
    unknown, _ = await bench.lost()
    row, attempt = await bench.claimed(delivery())
    await bench.echo("e1")
    assert await bench.echoes.look() == []
    await bench.tell(await bench.outcomes.accepted(row, attempt, "e2"))
    await bench.tell(*await bench.echoes.look())
    assert bench.users.sees(unknown) == (0, Status.SENT, None)


async def test_an_echo_before_the_answer_is_lost_settles_it(bench: Bench) -> None:
    """With the statuses that were parked under its name, by whoever looks next."""
    row, attempt = await bench.claimed()
    await bench.echo("e1")
    await bench.hear(StatusUpdate(provider_id="e1", status=Status.READ, at=NOW))
    await bench.tell(await bench.outcomes.unanswered(row, attempt, LOST))
    assert bench.users.sees(row) == (0, Status.UNKNOWN, "no_answer")
    await bench.tell(*await bench.echoes.look())
    assert bench.users.sees(row) == (0, Status.READ, None)
    assert await bench.outcomes.unreported([3]) == []


async def test_an_echo_settled_but_not_told_is_told_by_the_next_owner(bench: Bench) -> None:
    """A crash between the two loses nothing: the provider does not echo again for ever."""
    row, _ = await bench.lost()
    await bench.hear(StatusUpdate(provider_id="e1", status=Status.READ, at=NOW))
    await bench.echoes.place("main", [Echo(provider_id="e1", address="55", content="oi", at=NOW)])
    assert bench.users.sees(row) == (0, Status.UNKNOWN, "no_answer")
    await bench.tell(*await bench.outcomes.unreported([3]))
    assert bench.users.sees(row) == (0, Status.READ, None)


async def test_what_somebody_wrote_before_proves_nothing(bench: Bench) -> None:
    """An echo that came before the send was claimed is not of it."""
    await bench.echo("theirs")
    row, attempt = await bench.claimed()
    await bench.tell(await bench.outcomes.unanswered(row, attempt, LOST))
    await bench.tell(*await bench.echoes.look())
    assert await bench.state(row) == "unknown"


async def test_a_late_echo_corrects_a_send_that_was_given_up(bench: Bench) -> None:
    """Evidence is never too late."""
    row, _ = await bench.lost()
    await bench.tell(*await bench.outcomes.give_up([3], 0))
    assert bench.users.sees(row) == (0, Status.FAILED, OUTCOME_UNKNOWN)
    await bench.echo("e1")
    assert bench.users.sees(row) == (0, Status.SENT, None)


async def test_an_echo_spares_a_second_send(bench: Bench) -> None:
    """Of a row that is to be tried again at least once; not of one that waits for its first."""
    row, attempt = await bench.claimed(delivery(at_least_once=True))
    assert await bench.first.put_back(row, attempt, wait_s=0, failure=LOST)
    await bench.first.take_in([delivery(at_least_once=True)])
    await bench.echo("e1")
    await bench.echo("e2")
    assert bench.users.sees(row) == (0, Status.SENT, None)
    head = await bench.first.head(LANE)
    assert head is not None
    assert head.message_id != row.message_id


async def test_a_parts_echo_is_not_the_whole_deliverys(bench: Bench) -> None:
    """Each part has an echo of its own, and the delivery is as far as all of them."""
    rows = parts("a", "b")
    await bench.first.take_in(rows)
    await bench.lost()
    await bench.lost()
    await bench.echo("ea", "a")
    await bench.hear(StatusUpdate(provider_id="ea", status=Status.READ, at=NOW))
    assert bench.users.sees(rows[0]) == (0, Status.UNKNOWN, "no_answer")
    await bench.echo("eb", "b")
    assert bench.users.sees(rows[0]) == (0, Status.SENT, None)
    await bench.hear(StatusUpdate(provider_id="eb", status=Status.READ, at=NOW))
    assert bench.users.sees(rows[0]) == (0, Status.READ, None)
