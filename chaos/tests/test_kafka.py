"""Keys, assignments and groups as Kafka has them."""

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from chaos.adapters import kafka
from chaos.adapters.kafka import GroupState, Member


@given(st.uuids().map(str))
def test_a_key_has_the_partition_that_producers_choose(key: str) -> None:
    """The suite and the platform's producers agree."""
    partitions = list(range(10))
    chosen = DefaultPartitioner()(key.encode(), partitions, partitions)
    assert kafka.partition_of(key, 10) == chosen


def test_an_assignment_is_read() -> None:
    """The bytes that a member was sent tell its partitions; a member without any has none."""
    topic = ConsumerProtocolMemberAssignment.Assignment("chat-events", [3, 1])
    encoded = ConsumerProtocolMemberAssignment(0, [topic], b"").encode()
    assert kafka._partitions(encoded) == (3, 1)
    assert kafka._partitions(b"") == ()


def test_an_instance_owns_what_its_members_own() -> None:
    """A member is known by its client id, which holds the allocation's."""
    state = GroupState(
        "Stable", (Member("m1", "router-aa", (4, 2)), Member("m2", "router-bb", (1,)))
    )
    assert state.owned_by("aa") == (2, 4)
    assert state.owned_by("cc") == ()
