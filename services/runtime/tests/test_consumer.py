"""A consumer between two batches, against a real broker."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaProducer

from services.contracts.records import MessageAccepted, encode
from services.contracts.topics import PARTITIONS
from services.runtime.kafka import topics
from services.runtime.kafka.consumer import Consumer, Received
from services.runtime.kafka.producer import Producer
from services.runtime.tests.application import application

JOIN_TIMEOUT_S = 20.0
RECORD = encode(
    MessageAccepted(
        message_id=UUID(int=1),
        conversation_id=UUID(int=2),
        sender_id=UUID(int=3),
        content="hello",
        deliveries=(),
        accepted_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
)


@pytest.mark.connected
async def test_what_comes_during_a_rest_shares_the_next_batch(kafka_address: str) -> None:
    """Also when it came one by one and to several partitions."""
    name = f"test-consumer-{uuid4().hex[:8]}"
    batches: list[list[int]] = []
    first, goes_on, second = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(batch: Sequence[Received]) -> None:
        batches.append([received.partition for received in batch])
        (second if first.is_set() else first).set()
        await goes_on.wait()

    await topics.ensure(kafka_address, [name])
    publisher = AIOKafkaProducer(bootstrap_servers=kafka_address)
    await publisher.start()
    try:
        async with application(kafka_address) as app, asyncio.timeout(JOIN_TIMEOUT_S):
            producer = Producer(app, [name])
            Consumer(app, producer, group=name, topic=name, handle=handle)
            await publisher.send_and_wait(name, RECORD, partition=0)
            await first.wait()
            for partition in range(1, PARTITIONS):
                await publisher.send_and_wait(name, RECORD, partition=partition)
            goes_on.set()
            await second.wait()
    finally:
        await publisher.stop()
    assert batches[0] == [0]
    assert sorted(batches[1]) == list(range(1, PARTITIONS))
