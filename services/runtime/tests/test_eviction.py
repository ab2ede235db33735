"""Eviction: what is used of the library, commits around a rebalance, and a real broker."""

import asyncio
import inspect
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast
from uuid import uuid4

import aiokafka
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import UnknownMemberIdError
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.group import LeaveGroupRequest

from services.contracts.topics import PARTITIONS
from services.runtime.config import Config
from services.runtime.kafka import eviction, topics
from services.runtime.kafka.consumer import Consumer
from services.runtime.kafka.eviction import Assignments, GroupMember
from services.runtime.kafka.hello import Membership
from services.runtime.kafka.lifeline import Lifelines
from services.runtime.kafka.producer import Producer
from services.runtime.tests.application import application

MOVE_TIMEOUT_S = 2.0
FOLLOW_TIMEOUT_S = 8.0
"""Of a process that has to connect first; the broker would wait for the dead one for 30 s."""
JOIN_TIMEOUT_S = 20.0
TP, OTHER, NEW = (TopicPartition("topic", number) for number in range(3))
VICTIM = """
import asyncio, sys
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
async def main(address, topic, group, client_id):
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=address, group_id=group, client_id=client_id,
        partition_assignment_strategy=[StickyPartitionAssignor],
        session_timeout_ms=30000, heartbeat_interval_ms=100,
    )
    await consumer.start()
    print(consumer._coordinator.member_id, flush=True)
    await asyncio.Event().wait()
asyncio.run(main(*sys.argv[1:]))
"""


def test_the_library_is_the_one_that_was_read() -> None:
    """What is used beyond the public API has the form it had when it was read."""
    assert aiokafka.__version__.startswith("0.14."), "read group_coordinator.py and client.py again"
    assert "self._coordinator = GroupCoordinator(" in inspect.getsource(AIOKafkaConsumer.start)
    built = inspect.getsource(GroupCoordinator.__init__)
    for attribute in ("member_id", "generation", "coordinator_id", "_rejoin_needed_fut"):
        assert f"self.{attribute} = " in built
    assert "self._retry_backoff_ms = retry_backoff_ms" in built
    rejoined = inspect.getsource(GroupCoordinator._do_rejoin_group)
    assert "await asyncio.sleep(self._retry_backoff_ms / 1000)" in rejoined
    routine = inspect.getsource(GroupCoordinator._GroupCoordinator__coordination_routine)
    assert "futures.append(self._rejoin_needed_fut)" in routine
    assert "_rejoin_needed_fut.set_result" in inspect.getsource(GroupCoordinator.request_rejoin)
    joined = inspect.getsource(GroupCoordinator.ensure_active_group)
    assert joined.index("_on_join_prepare") < joined.index("_stop_heartbeat_task")
    assert joined.index("_stop_heartbeat_task") < joined.index("_do_rejoin_group")
    assert inspect.iscoroutinefunction(GroupCoordinator._do_heartbeat)
    assert inspect.iscoroutinefunction(GroupCoordinator.ensure_coordinator_known)
    for method in (AIOKafkaClient.send, AIOKafkaClient.ready):
        assert "group" in inspect.signature(method).parameters
    connected = inspect.getsource(AIOKafkaClient._get_conn)
    assert "conn_id = (node_id, group)" in connected
    assert "if not conn.connected():" in connected
    assert "self._conns[conn_id] = await create_conn(" in connected
    assert "_client.send(node_id, request)" in inspect.getsource(Fetcher._proc_fetch_request)
    assert list(inspect.signature(LeaveGroupRequest).parameters) == ["group", "member_id"]
    assert next(iter(inspect.signature(DescribeGroupsRequest).parameters)) == "groups"
    assert "cls.member_assignment = " in inspect.getsource(StickyPartitionAssignor.on_assignment)


def member_of(
    *assignments: Assignments,
    changed: Callable[[], None] = lambda: None,
    a_peer_joins: bool = False,
    evicting: bool = True,
) -> GroupMember:
    """Return a membership of the process `worker-own-b1` that no consumer holds yet."""
    config = SimpleNamespace(service_name="worker", instance_id="own")
    lifelines = SimpleNamespace(
        boot="b1", changed=changed, a_peer_joins=lambda _group: a_peer_joins, evicting=evicting
    )
    return GroupMember("g", cast("Config", config), cast("Lifelines", lifelines), assignments)


async def test_a_rejoin_waits_for_the_commit_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit reaches the broker before the JoinGroup, unless it takes too long."""
    heard: list[str] = []

    class Heard(Assignments):
        def revoked(self) -> None:
            heard.append("revoked")

    member = member_of(Heard(), changed=lambda: heard.append("changed"))
    member.joining = False
    monkeypatch.setattr(eviction, "COMMIT_GRACE_S", 30)
    await member.committing.acquire()
    rejoining = asyncio.create_task(member.on_partitions_revoked([TP]))
    done, _ = await asyncio.wait([rejoining], timeout=0.1)
    assert not done
    assert member.joining
    assert heard == ["revoked", "changed"]
    member.committing.release()
    await rejoining
    monkeypatch.setattr(eviction, "COMMIT_GRACE_S", 0.01)
    async with member.committing:
        await member.on_partitions_revoked([TP])


class Broker:
    """A coordinator and its connection as `GroupMember` sees them."""

    coordinator_id = 1
    member_id = "own"

    def __init__(self, members: dict[str, str], generation: int = 1) -> None:
        self.members = members
        self.generation = generation
        self.asked: list[str] = []
        self.rejoins = 0
        self._retry_backoff_ms = 0
        self.beats = 0
        self.sought: dict[TopicPartition, int] = {}
        self._coordinator = self._client = self
        self._conns: dict[object, object] = {}

    async def ensure_coordinator_known(self) -> None:
        """Be known."""

    async def ready(self, _node: int, *, group: int) -> bool:
        """Be connected."""
        assert group == eviction.EVICTION_CONNECTION
        return True

    async def send(self, node: int, request: object, *, group: int) -> object:
        """Let a member leave, or tell who is in the group."""
        assert (node, group) == (1, eviction.EVICTION_CONNECTION)
        if isinstance(request, LeaveGroupRequest):
            self.asked.append(request._member_id)
            known = self.members.pop(request._member_id, None) is not None
            return SimpleNamespace(error_code=0 if known else UnknownMemberIdError.errno)
        members = [(member_id, client, "h", b"", b"") for member_id, client in self.members.items()]
        return SimpleNamespace(groups=[(0, "g", "Stable", "consumer", "sticky", members)])

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Remember where to go on."""
        self.sought[tp] = offset

    def request_rejoin(self) -> None:
        """Count it."""
        self.rejoins += 1

    async def _do_heartbeat(self) -> None:
        """Count it."""
        self.beats += 1


@pytest.mark.parametrize(
    ("members", "member_id", "state", "asked", "rejoins"),
    [
        pytest.param({"m1": "dead"}, "m1", "stable", ["m1"], 1, id="known"),
        pytest.param({"m1": "dead"}, "m1", "joining", ["m1"], 0, id="known, in a rebalance"),
        pytest.param({"m2": "dead"}, "m1", "stable", ["m1", "m2"], 2, id="with a newer id"),
        pytest.param({"m2": "dead"}, "", "stable", ["m2"], 2, id="that told no id yet"),
        pytest.param({"m3": "alive"}, "m1", "stable", ["m1"], 1, id="evicted by another"),
        pytest.param({"m3": "alive"}, "m1", "joining", ["m1"], 0, id="evicted, in a rebalance"),
        pytest.param({"m3": "alive"}, "m1", "assigned", ["m1"], 0, id="evicted, all done"),
    ],
)
async def test_who_is_evicted_and_when_a_survivor_rejoins(
    members: dict[str, str], member_id: str, state: str, asked: list[str], rejoins: int
) -> None:
    """A dead member leaves under the id it had; a survivor rejoins unless it already did."""
    member, broker = member_of(), Broker(members)
    member.attach(broker)
    seen_at = time.monotonic()
    if state != "joining":
        await member.on_partitions_assigned([TP])
    if state == "stable":
        seen_at = time.monotonic()
    await member.evict(Membership("g", "dead", member_id, joining=False), "victim", seen_at)
    assert (broker.asked, broker.rejoins) == (asked, rejoins)
    assert "m3" not in broker.asked


@pytest.mark.parametrize(
    ("generation", "evicting", "asked"),
    [
        pytest.param(-1, True, ["before", "long before"], id="first join"),
        pytest.param(-1, False, [], id="switched off"),
        pytest.param(7, True, [], id="rejoin"),
    ],
)
async def test_whoever_was_started_again_evicts_its_predecessors(
    generation: int,
    evicting: bool,  # noqa: FBT001
    asked: list[str],
) -> None:
    """Before it joins for the first time, and nobody but the processes that it replaces."""
    members = {
        "before": "worker-own-b0",
        "another": "worker-own2-b0",
        "long before": "worker-own-a9",
        "elsewhere": "other-own-b0",
    }
    member, broker = member_of(evicting=evicting), Broker(members, generation)
    member.attach(broker)
    await member.on_partitions_revoked([])
    assert broker.asked == asked


async def test_a_broker_that_does_not_answer_keeps_nobody_from_joining(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever cannot ask for its predecessors joins without."""
    monkeypatch.setattr(eviction, "CONNECT_TIMEOUT_S", 0.01)
    member, broker = member_of(), Broker({"before": "worker-own-b0"}, generation=-1)
    monkeypatch.setattr(broker, "ensure_coordinator_known", asyncio.Event().wait)
    member.attach(broker)
    async with asyncio.timeout(1):
        await member.on_partitions_revoked([])
    assert not broker.asked


@pytest.mark.parametrize(("others_join", "beats"), [(False, 1), (True, 3)])
async def test_who_was_assigned_asks_soon_for_what_began_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
    others_join: bool,  # noqa: FBT001
    beats: int,
) -> None:
    """A rebalance that begins while we join, or soon after, is not left to the next heartbeat."""
    monkeypatch.setattr(eviction, "HASTEN_MAX", 3)
    member, broker = member_of(a_peer_joins=others_join), Broker({})
    member.attach(broker)
    await member.hasten(expected=True)
    assert broker.beats == 0
    await member.on_partitions_revoked([])
    assert broker._retry_backoff_ms == eviction.REJOIN_BACKOFF_MS
    await member.on_partitions_assigned([TP])
    assert member._looking is not None
    async with asyncio.timeout(1):
        await member._looking
    assert broker.beats == beats
    assert broker._retry_backoff_ms == eviction.RETRY_BACKOFF_MS


class Commits:
    """What a consumer was asked to commit."""

    def __init__(self) -> None:
        self.made: list[dict[TopicPartition, int]] = []

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Keep it."""
        self.made.append(offsets)

    def highwater(self, _tp: TopicPartition) -> int | None:
        """Know of no end."""
        return None


async def test_nothing_is_committed_during_a_rebalance() -> None:
    """Offsets move while the assignment stands; what was done before a rebalance moves none."""
    async with application("127.0.0.1:1") as app:
        never = asyncio.Event()
        producer = Producer.__new__(Producer)
        consumer = Consumer(
            app, producer, group="g", topic=TP.topic, handle=_ignore, after=(never,)
        )
        member, commits = consumer._member, Commits()
        for offset in (5, 6):
            await member.on_partitions_assigned([TP])
            consumer._turns.now.done[TP] = offset
            if offset == 6:
                stale = consumer._turns.now
                await member.on_partitions_revoked([TP])
                stale.done[TP] = consumer._turns.now.done[TP] = 7
            await consumer._commit(commits)
        await member.on_partitions_assigned([TP])
        await consumer._commit(commits)
        assert commits.made == [{TP: 5}]
        never.set()


@pytest.mark.parametrize(
    ("generation", "goes_on"),
    [
        pytest.param(2, {TP: 7}, id="the next generation"),
        pytest.param(3, {}, id="another had it in between"),
    ],
)
async def test_a_partition_that_stayed_goes_on_where_it_was(
    generation: int, goes_on: dict[TopicPartition, int]
) -> None:
    """What was done and not committed is done again only where somebody else may have been."""
    async with application("127.0.0.1:1") as app:
        never = asyncio.Event()
        producer = Producer.__new__(Producer)
        consumer = Consumer(
            app, producer, group="g", topic=TP.topic, handle=_ignore, after=(never,)
        )
        member, broker, commits = consumer._member, Broker({}), Commits()
        member.attach(broker)
        await member.on_partitions_assigned([TP])
        consumer._turns.now.done |= {TP: 7, OTHER: 8}
        await member.on_partitions_revoked([TP, OTHER])
        broker.generation = generation
        await member.on_partitions_assigned([TP, NEW])
        await consumer._commit(commits)
        assert broker.sought == goes_on
        assert commits.made == ([goes_on] if goes_on else [])
        never.set()


async def _ignore(_batch: object) -> None:
    """Do no work."""


class Owned(Assignments):
    """The partitions that a survivor has."""

    def __init__(self) -> None:
        self.partitions: frozenset[int] = frozenset()

    def assigned(self, partitions: frozenset[int]) -> None:
        """Keep them."""
        self.partitions = partitions

    async def count(self, partitions: int, timeout_s: float) -> None:
        """Wait until so many are ours."""
        async with asyncio.timeout(timeout_s):
            while len(self.partitions) != partitions:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def victim(kafka_address: str, name: str, client_id: str) -> AsyncIterator[str]:
    """Lend a member of a group, with its member id; it is killed in the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", VICTIM, kafka_address, name, name, client_id),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(JOIN_TIMEOUT_S):
            member_id = (await process.stdout.readline()).decode().strip()
        yield member_id
    finally:
        process.kill()
        await process.wait()


@pytest.mark.connected
async def test_whoever_follows_the_last_member_need_not_wait_for_it(kafka_address: str) -> None:
    """All partitions are soon those of the process that was started again."""
    name, owned = f"test-eviction-{uuid4().hex[:8]}", Owned()
    await topics.ensure(kafka_address, [name])
    async with victim(kafka_address, name, "worker-survivor-before"):
        pass
    async with application(kafka_address) as app:
        producer = Producer(app, [name])
        Consumer(app, producer, group=name, topic=name, handle=_ignore, assignments=owned)
        await owned.count(PARTITIONS, FOLLOW_TIMEOUT_S)


@pytest.mark.connected
@pytest.mark.parametrize("told", ["the member id", "an old member id", "no member id"])
async def test_the_partitions_of_an_evicted_member_move(kafka_address: str, told: str) -> None:
    """A killed member's partitions are the survivor's in less than two seconds, not thirty."""
    name, owned = f"test-eviction-{uuid4().hex[:8]}", Owned()
    await topics.ensure(kafka_address, [name])
    async with application(kafka_address) as app:
        producer = Producer(app, [name])
        consumer = Consumer(
            app, producer, group=name, topic=name, handle=_ignore, assignments=owned
        )
        await owned.count(PARTITIONS, JOIN_TIMEOUT_S)
        async with victim(kafka_address, name, "victim") as member_id:
            await owned.count(PARTITIONS // 2, JOIN_TIMEOUT_S)
        member_id = {"the member id": member_id, "no member id": ""}.get(told, f"{member_id}x")
        lost = Membership(name, "victim", member_id, joining=False)
        await consumer._member.evict(lost, "victim", time.monotonic())
        await owned.count(PARTITIONS, MOVE_TIMEOUT_S)
