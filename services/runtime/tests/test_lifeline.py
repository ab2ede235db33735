"""Lifelines over real sockets: what is a death, what is none, and what readiness waits for."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from services.runtime.kafka import lifeline
from services.runtime.kafka.hello import Hello, Membership
from services.runtime.tests.lifelines import (
    SWITCH,
    VICTIM,
    WAIT_TIMEOUT_S,
    Peer,
    Process,
    never,
    until,
)


@pytest.fixture
async def process(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Process]:
    """Run a process that has one membership and says hello often."""
    monkeypatch.setattr(lifeline, "SAY_EVERY_S", 0.05)
    monkeypatch.setattr(lifeline, "ANSWER_TIMEOUT_S", 0.1)
    monkeypatch.setattr(lifeline, "RETRY_MAX_S", 0.1)
    made = Process()
    await until(lambda: made.lifelines._server)
    yield made
    await made.close()


async def test_a_refused_reconnect_is_a_death(process: Process) -> None:
    """The end of a lifeline with nobody at its address evicts the member, and once only."""
    peer = await Peer(process).connected()
    peer.die()
    await until(lambda: process.member.evicted)
    await never(lambda: len(process.member.evicted) > 1)
    assert process.member.evicted == [VICTIM]


async def test_the_same_boot_that_answers_is_alive(process: Process) -> None:
    """A connection that broke is replaced, and nobody is evicted."""
    peer = await Peer(process).connected()
    peer.hang_up()
    await until(lambda: peer.accepted == 2 and process.lifelines.peers)
    await never(lambda: process.member.evicted)


async def test_another_boot_that_answers_is_a_death(process: Process) -> None:
    """A process restarted at the same address means that the one before is dead."""
    peer = await Peer(process).connected()
    peer.boot = "b2"
    peer.memberships = (msgspec.structs.replace(VICTIM, member_id="member-2"),)
    peer.hang_up()
    await until(lambda: process.member.evicted)
    await until(lambda: [known.boot for known in process.lifelines.peers] == ["b2"])
    assert process.member.evicted == [VICTIM]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x" * 20_000])
async def test_a_stranger_at_the_address_is_a_death(process: Process, answer: bytes) -> None:
    """Whoever else got the port shows that its former owner is gone."""
    peer = await Peer(process).connected()
    peer.answer = answer
    peer.hang_up()
    await until(lambda: process.member.evicted)


async def test_a_goodbye_is_no_death(process: Process) -> None:
    """A process that left its groups before it ended is not evicted."""
    peer = await Peer(process).connected()
    peer.memberships = ()
    peer.say()
    await until(lambda: not process.lifelines.peers[0].memberships)
    peer.die()
    await until(lambda: not process.lifelines.peers)
    await never(lambda: process.member.evicted)


async def test_silence_is_no_death(process: Process) -> None:
    """A peer that says nothing any more keeps its lifeline and its membership."""
    peer = await Peer(process).connected()
    peer.refuse()
    await never(lambda: process.member.evicted or not process.lifelines.peers)


async def test_no_answer_is_no_death_until_it_is_refused(process: Process) -> None:
    """A connection that is accepted and says nothing decides nothing; a later refusal does."""
    peer = await Peer(process).connected()
    peer.silent = True
    peer.hang_up()
    await until(lambda: peer.accepted == 2)
    await never(lambda: process.member.evicted)
    peer.die()
    await until(lambda: process.member.evicted)


async def test_the_member_id_in_hand_is_the_last_one_told(process: Process) -> None:
    """What a peer says after a rebalance counts, not what it said when it was met."""
    peer = await Peer(process).connected()
    newer = msgspec.structs.replace(VICTIM, member_id="member-2")
    other = Membership("another group", "c", "m", joining=False)
    peer.memberships = (newer, other)
    peer.say()
    await until(lambda: process.lifelines.peers[0].memberships == (newer, other))
    peer.die()
    await until(lambda: process.member.evicted)
    assert process.member.evicted == [newer]


async def test_eviction_can_be_switched_off_and_on(process: Process) -> None:
    """The switch in Consul is obeyed while the process runs."""
    process.consul.answers[SWITCH].put_nowait(
        [{"Key": "chat4all/config/common/eviction", "Value": "b2Zm"}]
    )
    await until(lambda: not process.lifelines.evicting)
    peer = await Peer(process).connected()
    peer.die()
    await until(lambda: not process.lifelines.peers)
    await never(lambda: process.member.evicted)
    process.consul.answers[SWITCH].put_nowait([])
    await until(lambda: process.lifelines.evicting)


async def test_a_peer_that_calls_is_dialled_back(process: Process) -> None:
    """A new peer is watched before Consul tells of it."""
    peer = await Peer(process).listen()
    _, writer = await asyncio.open_connection(*process.address)
    writer.write(peer.hello)
    await until(lambda: process.lifelines.peers)
    peer.die()
    await until(lambda: process.member.evicted)
    await until(lambda: not process.lifelines._peers)
    writer.close()


async def test_who_does_not_know_the_secret_is_no_peer(process: Process) -> None:
    """A hello without its proof opens no lifeline, whichever side it comes from."""
    peer = Peer(process)
    peer.secret = False
    await peer.listen()
    reader, writer = await asyncio.open_connection(*process.address)
    writer.write(peer.hello)
    async with asyncio.timeout(WAIT_TIMEOUT_S):
        await reader.read()
    process.consul.list((peer.address, "passing"))
    await until(lambda: peer.accepted)
    await never(lambda: process.lifelines.peers)
    writer.close()
    peer.die()


async def test_hellos_repeat_and_changes_are_told_at_once(process: Process) -> None:
    """Peers hear a hello when they come, again and again, and whenever something changed."""
    reader, writer = await asyncio.open_connection(*process.address)
    async with asyncio.timeout(WAIT_TIMEOUT_S):
        first, second = await reader.readline(), await reader.readline()
        assert first == second
        process.member.membership = msgspec.structs.replace(VICTIM, member_id="new")
        process.lifelines.changed()
        told = msgspec.json.decode(await reader.readline(), type=Hello)
    assert [membership.member_id for membership in told.memberships] == ["new"]
    writer.close()


async def test_a_joining_peer_hastens_those_of_its_group(process: Process) -> None:
    """While a peer waits for a rebalance, every hello of it makes us look for one."""
    peer = await Peer(process).connected()
    await until(lambda: process.member.hastened == 1)
    peer.say()
    await never(lambda: process.member.hastened > 1)
    assert not process.member.expecting
    peer.memberships = (msgspec.structs.replace(VICTIM, joining=True),)
    assert not process.lifelines.a_peer_joins(VICTIM.group)
    for times in (2, 3):
        peer.say()
        await until(lambda times=times: process.member.hastened == times)  # type: ignore[misc]
        assert process.member.expecting
        assert process.lifelines.a_peer_joins(VICTIM.group)
        assert not process.lifelines.a_peer_joins("another")


async def test_whoever_joins_waits_until_its_peers_can_hear_it(process: Process) -> None:
    """A peer that passes must have dialled us; one that comes too late is not waited for."""
    peer = await Peer(process).listen()
    process.consul.list((peer.address, "passing"))
    process.consul.answers[SWITCH].put_nowait([])
    await process.lifelines.gathered()
    known = process.lifelines._peers[peer.address]
    assert (known.connected, known.settled) == (True, False)
    _, writer = await asyncio.open_connection(*process.address)
    writer.write(peer.hello)
    await until(lambda: known.settled)
    writer.close()


async def test_whoever_joins_knows_whether_the_dead_are_evicted(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The switch is read before a group is joined."""
    monkeypatch.setattr(lifeline, "ANSWER_TIMEOUT_S", WAIT_TIMEOUT_S)
    process.consul.list((process.address, "passing"))
    joining = asyncio.create_task(process.lifelines.gathered())
    await never(joining.done)
    process.consul.answers[SWITCH].put_nowait(
        [{"Key": "chat4all/config/common/eviction", "Value": "b2Zm"}]
    )
    await joining
    assert not process.lifelines.evicting


async def test_a_lone_process_is_ready_once_consul_has_answered(process: Process) -> None:
    """Nobody else is needed, but it must be known that there is nobody else."""
    assert "lifelines" in await process.health.down()
    process.consul.list((process.address, "passing"))
    await until(lambda: process.lifelines._peers_known)
    assert await process.health.down() == {}


async def test_readiness_waits_for_peers_that_pass(process: Process) -> None:
    """A passing peer has to answer; one that does not pass or refuses is not waited for."""
    peer = Peer(process)
    peer.silent = True
    await peer.listen()
    process.consul.list((peer.address, "critical"))
    await until(lambda: peer.accepted)
    assert await process.health.down() == {}
    process.consul.list((peer.address, "passing"))
    await until(lambda: process.lifelines._peers[peer.address].passing)
    assert "lifelines" in await process.health.down()
    peer.die()
    await until(lambda: process.lifelines._peers[peer.address].absent)
    assert await process.health.down() == {}


async def test_a_peer_that_consul_forgot_and_that_refuses_is_dropped(process: Process) -> None:
    """An address is dialled no more when neither Consul nor the peer stands for it."""
    peer = await Peer(process).connected()
    process.consul.list()
    peer.die()
    await until(lambda: not process.lifelines._peers)
    assert process.member.evicted == [VICTIM]


async def test_two_processes_hold_each_other(process: Process) -> None:
    """One of two real processes that Consul names to one only: both end up with a lifeline."""
    other = Process()
    await until(lambda: other.lifelines._server)
    other.consul.list((process.address, "passing"), (other.address, "passing"))
    await until(lambda: process.lifelines.peers and other.lifelines.peers)
    other.member.membership = None
    await other.close()
    await until(lambda: not process.lifelines.peers)
    assert process.member.evicted == other.member.evicted == []
