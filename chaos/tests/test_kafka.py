"""Keys, assignments and groups as Kafka has them."""

import os
from collections.abc import AsyncIterator
from uuid import uuid4

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from chaos.adapters import consul, kafka
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


@pytest.fixture
async def broker() -> str:
    """Return where the instance's Kafka is."""
    async with aiohttp.ClientSession() as session:
        return await consul.address_of(os.environ["CONSUL_HTTP_ADDR"], "kafka", session)


@pytest.fixture
async def topic(broker: str) -> AsyncIterator[str]:
    """Lend a topic of two partitions that is gone afterwards."""
    name = f"lag-{uuid4()}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    await admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1)])
    yield name
    await admin.delete_topics([name])
    await admin.close()


@pytest.mark.connected
async def test_a_group_is_behind_by_what_it_has_not_committed(broker: str, topic: str) -> None:
    """The lag is told for each partition with a commit, and follows records and commits."""
    group = f"group-{uuid4()}"
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    groups = kafka.Groups(broker)
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, group_id=group, enable_auto_commit=False)
    await producer.start()
    await consumer.start()
    try:
        consumer.assign([first, second])
        for _ in range(3):
            await producer.send_and_wait(topic, b"x", partition=0)
        assert await groups.behind(group) == {}
        await consumer.commit({first: 1})
        assert await groups.behind(group) == {0: 2}
        await producer.send_and_wait(topic, b"x", partition=1)
        await consumer.commit({first: 3, second: 0})
        assert await groups.behind(group) == {0: 0, 1: 1}
    finally:
        await groups.close()
        await consumer.stop()
        await producer.stop()
