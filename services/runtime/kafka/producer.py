"""Publishes records: acknowledged by all replicas, in order, replaced after a failure."""

import asyncio
from collections.abc import Awaitable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from services.contracts.records import AnyRecord, encode
from services.runtime.app import App
from services.runtime.health import REMOTE_FRESH_S
from services.runtime.kafka import topics
from services.runtime.telemetry import trace
from services.runtime.telemetry.log import log
from services.runtime.unavailable import Unavailable, register

NAME = "kafka"
RETRY_S = 0.5
REQUEST_TIMEOUT_MS = 5000
KEYS_MAX = 50_000
"""Keys whose hash is remembered: it takes longer than all else about sending a record."""

register(NAME, KafkaError)
_log = log(__name__)


class Outgoing(NamedTuple):
    """A record on its way to a topic; records of one key stay in order."""

    topic: str
    key: str
    record: AnyRecord
    traceparent: str | None = None


class Producer:
    """One producer for as long as a process lives; a failed one is replaced.

    After a failed batch a later one could succeed and so overtake it: the producer is thrown
    away, everything in flight fails, and the callers start again from what is durable.
    """

    def __init__(self, app: App[Any], needed_topics: Sequence[str]) -> None:
        self._app = app
        self._topics = tuple(needed_topics)
        self._producer: AIOKafkaProducer | None = None
        self._broken = asyncio.Event()
        app.health.add(NAME, self._probe, fresh_s=REMOTE_FRESH_S)
        app.on_stop(NAME, self._close)
        app.spawn("kafka-producer", self._keep())

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Return when all records are acknowledged; raise Unavailable when one is not.

        Then any of them may or may not stand in its topic, and nothing published later has
        overtaken one that does.
        """
        producer = self._producer
        if producer is None:
            raise Unavailable(NAME, "the producer is not connected")
        acknowledgements: list[Awaitable[Any]] = []
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1000 + 1):
                for topic, key, record, traceparent in outgoing:
                    header = traceparent or trace.header()
                    acknowledgements.append(
                        await producer.send(
                            topic,
                            value=encode(record),
                            key=key.encode(),
                            headers=[(trace.HEADER, header.encode())],
                        )
                    )
                await asyncio.gather(*acknowledgements)
        except (KafkaError, TimeoutError) as error:
            if self._producer is producer:
                self._producer = None
                self._broken.set()
            raise Unavailable(NAME, type(error).__name__) from error

    async def _keep(self) -> None:
        while True:
            self._broken.clear()
            address = self._app.config.kafka_address or await self._app.discovery.address(NAME)
            producer = AIOKafkaProducer(
                bootstrap_servers=address,
                client_id=self._app.config.service_name,
                acks="all",
                enable_idempotence=True,
                partitioner=_partition,
                linger_ms=0,
                max_batch_size=262_144,
                request_timeout_ms=REQUEST_TIMEOUT_MS,
                retry_backoff_ms=20,
            )
            try:
                await topics.ensure(address, self._topics)
                await producer.start()
            except (KafkaError, OSError, TimeoutError) as error:
                _log.warning("kafka_not_reached", error=repr(error))
                await _discard(producer)
                await asyncio.sleep(RETRY_S)
                continue
            self._producer = producer
            await self._broken.wait()
            _log.warning("producer_replaced")
            await _discard(producer)

    async def _probe(self) -> None:
        producer = self._producer
        if producer is None:
            raise Unavailable(NAME, "the producer is not connected")
        if not await producer.client.force_metadata_update():
            raise Unavailable(NAME, "no broker answers")

    async def _close(self) -> None:
        if self._producer is not None:
            await self._producer.stop()


@lru_cache(KEYS_MAX)
def _hash(key: bytes) -> int:
    hashed: int = murmur2(key)
    return hashed & 0x7FFFFFFF


def _partition(key: bytes, partitions: Sequence[int], _available: Sequence[int]) -> int:
    """Choose as Kafka's own clients do."""
    return partitions[_hash(key) % len(partitions)]


async def _discard(producer: AIOKafkaProducer) -> None:
    """Drop a producer that failed without flushing: what it holds counts as failed already."""
    try:
        if producer._sender.sender_task is not None:  # noqa: SLF001 - stop() would flush
            await producer._sender.close()  # noqa: SLF001
        await producer.client.close()
    except (KafkaError, TimeoutError, OSError) as error:
        _log.info("producer_discarded", error=type(error).__name__)
    producer._closed = True  # noqa: SLF001 - it is; the library must not warn that it was left open
