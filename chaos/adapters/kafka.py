"""Kafka's consumer groups as the broker describes them, and how keys become partitions."""

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
        self._coordinators: dict[str, int] = {}

    async def close(self) -> None:
        """Give the connection back."""
        admin, self._admin, self._coordinators = self._admin, None, {}
        if admin is not None:
            await admin.close()

    async def describe(self, group: str) -> GroupState:
        """Return a group as it is now."""
        if self._admin is None:
            admin = AIOKafkaAdminClient(
                bootstrap_servers=self._address, request_timeout_ms=REQUEST_TIMEOUT_MS
            )
            self._admin = admin
            await admin.start()
        if group not in self._coordinators:
            self._coordinators[group] = await self._admin.find_coordinator(group)
        answers = await self._admin.describe_consumer_groups(
            [group], group_coordinator_id=self._coordinators[group]
        )
        (found,) = answers[0].to_object()["groups"]
        return GroupState(
            state=found["state"],
            members=tuple(
                Member(m["member_id"], m["client_id"], _partitions(m["member_assignment"]))
                for m in found["members"]
            ),
        )


def _partitions(assignment: bytes) -> tuple[int, ...]:
    if not assignment:
        return ()
    decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    return tuple(tp.partition for tp in decoded.partitions())
