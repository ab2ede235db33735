"""Kafka's consumer groups as the broker describes them, and how keys become partitions."""

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.partitioner import murmur2
from msgspec import Struct

STABLE = "Stable"
REQUEST_TIMEOUT_MS = 2000


class Member(Struct, frozen=True):
    """A member of a group; the client id holds the allocation's id."""

    member_id: str
    client_id: str
    partitions: tuple[int, ...]


class GroupState(Struct, frozen=True):
    """A group at one moment."""

    state: str
    members: tuple[Member, ...]

    def owned_by(self, instance: str) -> tuple[int, ...]:
        """Return the partitions of an instance."""
        return tuple(
            sorted(p for m in self.members if instance in m.client_id for p in m.partitions)
        )


def partition_of(key: str, partitions: int) -> int:
    """Return the partition that every producer chooses for a key."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)


class Groups:
    """Describes groups; the connection is made anew after an error."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._admin: AIOKafkaAdminClient | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._coordinators: dict[str, int] = {}

    async def close(self) -> None:
        """Give the connection back."""
        admin, self._admin, self._coordinators = self._admin, None, {}
        consumer, self._consumer = self._consumer, None
        try:
            if consumer is not None:
                await consumer.stop()
        finally:
            if admin is not None:
                await admin.close()

    async def describe(self, group: str) -> GroupState:
        """Return a group as it is now."""
        admin, coordinator = await self._asked(group)
        answers = await admin.describe_consumer_groups([group], group_coordinator_id=coordinator)
        (found,) = answers[0].to_object()["groups"]
        return GroupState(
            state=found["state"],
            members=tuple(
                Member(m["member_id"], m["client_id"], _partitions(m["member_assignment"]))
                for m in found["members"]
            ),
        )

    async def behind(self, group: str) -> dict[int, int]:
        """Return how many records of each partition a group has not committed.

        A partition of which it never committed anything is left out.
        """
        admin, coordinator = await self._asked(group)
        committed = await admin.list_consumer_group_offsets(group, coordinator)
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(
                bootstrap_servers=self._address, request_timeout_ms=REQUEST_TIMEOUT_MS
            )
            await self._consumer.start()
        # Asked for afterwards, no end lies before what was committed.
        ends = await self._consumer.end_offsets(list(committed))
        found: dict[int, int] = {}
        for place, at in committed.items():
            found[place.partition] = found.get(place.partition, 0) + ends[place] - at.offset
        return found

    async def _asked(self, group: str) -> tuple[AIOKafkaAdminClient, int]:
        """Return the connection, and which broker coordinates a group."""
        if self._admin is None:
            self._admin = AIOKafkaAdminClient(
                bootstrap_servers=self._address, request_timeout_ms=REQUEST_TIMEOUT_MS
            )
            await self._admin.start()
        if group not in self._coordinators:
            self._coordinators[group] = await self._admin.find_coordinator(group)
        return self._admin, self._coordinators[group]


def _partitions(assignment: bytes) -> tuple[int, ...]:
    if not assignment:
        return ()
    decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    return tuple(tp.partition for tp in decoded.partitions())
