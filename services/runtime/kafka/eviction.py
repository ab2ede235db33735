"""Our place in a consumer group, and how a dead member is removed from it.

The broker keeps a dead member until its session times out unless somebody leaves in its name; the
survivors rejoin as soon as that is done instead of with their next heartbeat. Where nobody
survived, each process that is started again removes the one that it replaces. What the library
offers for that is not public: it is used here and nowhere else, and a test holds it to its form.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaError, NoError, UnknownMemberIdError, for_code
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.group import LeaveGroupRequest

from services.runtime.config import Config
from services.runtime.kafka.hello import Membership
from services.runtime.kafka.lifeline import Lifelines
from services.runtime.telemetry import metrics
from services.runtime.telemetry.log import log

EVICTION_CONNECTION = 2
"""A connection of its own: behind a JoinGroup or a Fetch that waits, requests wait too."""
CONNECT_TIMEOUT_S = 1.0
EVICT_TIMEOUT_S = 3.0
COMMIT_GRACE_S = 0.1
RETRY_BACKOFF_MS = 100
"""Between attempts while a broker is away, each of which costs both sides something."""
REJOIN_BACKOFF_MS = 20
"""The same while we join: whoever leads the group may die before it has told what is whose, and
then all others only learn that they must join anew."""
HASTEN_MAX, HASTEN_EVERY_S = 15, 0.02

_log = log(__name__)


class Assignments:
    """What somebody who keeps state per partition wants to hear; both must return at once."""

    def revoked(self) -> None:
        """Stop handing out new work: a rebalance has begun."""

    def assigned(self, partitions: frozenset[int]) -> None:
        """Go on with exactly these partitions."""


class GroupMember(ConsumerRebalanceListener):  # type: ignore[misc]
    """A membership from its first join to its leaving, whichever consumer holds it."""

    def __init__(
        self,
        group: str,
        config: Config,
        lifelines: Lifelines,
        assignments: Iterable[Assignments],
    ) -> None:
        self.group = group
        self._instance = config.instance_id
        self._name = f"{config.service_name}-{config.instance_id}-"
        """What the client ids of all processes begin with that were ever started as this one."""
        self.client_id = f"{self._name}{lifelines.boot}"
        self._lifelines = lifelines
        self._assignments = tuple(assignments)
        self._consumer: AIOKafkaConsumer | None = None
        self._hastening = False
        self._looking: asyncio.Task[None] | None = None
        self._assigned_at = 0.0
        self._left = (-1, frozenset[int]())
        """The generation that was left last, and what was ours in it."""
        self.stayed = frozenset[int]()
        """The partitions that nobody else can have had since we had them."""
        self.joining = True
        self.committing = asyncio.Lock()
        """Held around a commit: one that reached the broker after our JoinGroup would carry the
        old generation, and the library would give up its member id, which stays in the group."""

    @property
    def membership(self) -> Membership | None:
        """What peers must know of it; None before a join and after leaving."""
        if self._consumer is None:
            return None
        coordinator = self._coordinator
        member_id = "" if coordinator is None else coordinator.member_id
        return Membership(self.group, self.client_id, member_id, self.joining)

    @property
    def generation(self) -> int:
        """The generation of the group that was joined last."""
        return -1 if self._coordinator is None else int(self._coordinator.generation)

    @property
    def _coordinator(self) -> Any:
        """What speaks the group's protocol; None until the consumer is started."""
        return None if self._consumer is None else self._consumer._coordinator  # noqa: SLF001

    def attach(self, consumer: AIOKafkaConsumer) -> None:
        """Hold the membership through a consumer that is about to join."""
        self._consumer, self.joining = consumer, True
        self._lifelines.changed()

    def detach(self) -> None:
        """Have no membership any more: the consumer has left the group."""
        self._consumer = None
        self._lifelines.changed()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Stop new work and commits; what is on the way to the broker gets there first."""
        self.joining = True
        self._wait_between_attempts(REJOIN_BACKOFF_MS)
        self._left = self.generation, frozenset(tp.partition for tp in revoked)
        self._log_event("partitions_revoked", revoked)
        for each in self._assignments:
            each.revoked()
        self._lifelines.changed()
        try:
            async with asyncio.timeout(COMMIT_GRACE_S), self.committing:
                pass
        except TimeoutError:
            _log.warning("commit_overtaken", group=self.group)
        if self.generation < 0 and self._lifelines.evicting:
            await self._evict_predecessors()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Go on with the new partitions, and let peers know as whom.

        Whether another rebalance has begun meanwhile is asked soon, and some more while a peer
        says that it joins: that was heard while we joined, and may have meant the one that is over.
        """
        self.joining, self._assigned_at = False, time.monotonic()
        self._wait_between_attempts(RETRY_BACKOFF_MS)
        self._looking = asyncio.create_task(self._look_again(), name="look again")
        self._log_event("partitions_assigned", assigned)
        partitions = frozenset(tp.partition for tp in assigned)
        generation, before = self._left
        self.stayed = partitions & before if self.generation == generation + 1 else frozenset()
        for each in self._assignments:
            each.assigned(partitions)
        self._lifelines.changed()
        self._drop_fetches()
        await self._connect()

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Go on in a partition of ours at an offset, whatever was committed."""
        if self._consumer is not None:
            self._consumer.seek(tp, offset)

    def _wait_between_attempts(self, milliseconds: int) -> None:
        if self._coordinator is not None:
            self._coordinator._retry_backoff_ms = milliseconds  # noqa: SLF001

    def _log_event(self, event: str, partitions: Iterable[TopicPartition]) -> None:
        _log.info(
            event,
            group=self.group,
            partitions=sorted(tp.partition for tp in partitions),
            generation=self.generation,
            monotonic_s=time.monotonic(),
        )

    def _drop_fetches(self) -> None:
        """Fetch the new partitions at once, not when the Fetch of the old ones has waited enough.

        The broker reads nothing more of a connection until it has answered what came before.
        """
        coordinator = self._coordinator
        if coordinator is None:
            return
        for (_, purpose), connection in tuple(coordinator._client._conns.items()):  # noqa: SLF001
            if purpose == ConnectionGroup.DEFAULT:
                connection.close()

    async def _connect(self) -> None:
        """Open the connection for evictions ahead of the first one."""
        coordinator = self._coordinator
        if coordinator is None:
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await coordinator._client.ready(  # noqa: SLF001
                    coordinator.coordinator_id, group=EVICTION_CONNECTION
                )
        except TimeoutError:
            _log.warning("eviction_not_prepared", group=self.group)

    async def _look_again(self) -> None:
        await asyncio.sleep(HASTEN_EVERY_S)
        await self.hasten(expected=self._lifelines.a_peer_joins(self.group))

    async def evict(self, lost: Membership, peer: str, seen_at: float) -> None:
        """Leave the group in the name of a dead member and rejoin it.

        When the member id in hand is no longer one, the member may have died with a new id that
        it could not tell any more: then whoever is in the group under its client id is removed.
        """
        try:
            async with asyncio.timeout(EVICT_TIMEOUT_S):
                left = bool(lost.member_id) and await self._leave(lost.member_id, peer)
                self._rejoin(left=left, seen_at=seen_at)
                if left and not lost.joining:
                    return
                for member_id in await self._ids_of(lambda name: name == lost.client_id):
                    left = await self._leave(member_id, peer)
                    self._rejoin(left=left, seen_at=seen_at)
        except Exception as error:  # noqa: BLE001 - nobody dies of another's death
            self._failed(peer, error)

    async def _evict_predecessors(self) -> None:
        """Remove what a process left in the group that died and that we were started instead of.

        Survivors have done that long before. Where there are none it would be waited for until
        the broker gives it up, for as long as a rebalance may take.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                for member_id in await self._ids_of(lambda name: name.startswith(self._name)):
                    await self._leave(member_id, self._instance)
        except Exception as error:  # noqa: BLE001 - the broker gives it up by itself
            self._failed(self._instance, error)

    def _failed(self, peer: str, error: Exception) -> None:
        metrics.evictions.labels(self.group, "failed").inc()
        _log.error("eviction_failed", group=self.group, peer=peer, exc_info=error)

    async def hasten(self, *, expected: bool) -> None:
        """Ask the coordinator whether a rebalance has begun, ahead of the next heartbeat.

        Again and again for a moment where one is expected: whoever says that it joins may say so
        before the coordinator has heard of it.
        """
        if self._hastening:
            return
        self._hastening = True
        try:
            for _ in range(HASTEN_MAX if expected else 1):
                coordinator = self._coordinator
                if coordinator is None or self.joining:
                    return
                await coordinator._do_heartbeat()  # noqa: SLF001
                await asyncio.sleep(HASTEN_EVERY_S)
        except KafkaError as error:
            # The heartbeat proper meets it too, and there it ends the consumer.
            _log.info("heartbeat_failed", group=self.group, error=repr(error))
        finally:
            self._hastening = False

    def _rejoin(self, *, left: bool, seen_at: float) -> None:
        """Join anew at once, unless that has begun already.

        It has when another survivor's eviction was heard of before the answer to our own.
        """
        if self._coordinator is None or self.joining:
            return
        if left or self._assigned_at < seen_at:
            self._coordinator.request_rejoin()

    async def _leave(self, member_id: str, peer: str) -> bool:
        answer = await self._ask(LeaveGroupRequest(self.group, member_id))
        outcome = for_code(answer.error_code)
        metrics.evictions.labels(self.group, outcome.__name__).inc()
        _log.info(
            "member_evicted" if outcome is NoError else "member_not_evicted",
            group=self.group,
            member_id=member_id,
            peer=peer,
            outcome=outcome.__name__,
            monotonic_s=time.monotonic(),
        )
        if outcome not in (NoError, UnknownMemberIdError):
            raise outcome
        return outcome is NoError

    async def _ids_of(self, is_meant: Callable[[str], bool]) -> list[str]:
        """Return the ids of those members whose client id is meant."""
        answer = await self._ask(DescribeGroupsRequest([self.group]))
        error, _, _, _, _, members, *_ = answer.groups[0]
        if error:
            raise for_code(error)
        return [member_id for member_id, client_id, *_ in members if is_meant(client_id)]

    async def _ask(self, request: object) -> Any:
        coordinator = self._coordinator
        if coordinator is None:
            raise KafkaError("the consumer is not connected")
        await coordinator.ensure_coordinator_known()
        return await coordinator._client.send(  # noqa: SLF001
            coordinator.coordinator_id, request, group=EVICTION_CONNECTION
        )
