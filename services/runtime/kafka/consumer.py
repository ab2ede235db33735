"""Consumes topics batch by batch: offsets move only after the work of a batch is durable."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from services.contracts.records import AnyRecord, Poison, decode
from services.contracts.timers import HEARTBEAT_MS, REBALANCE_TIMEOUT_MS, SESSION_TIMEOUT_MS
from services.runtime.app import App
from services.runtime.kafka import topics
from services.runtime.kafka.dead_letters import bury
from services.runtime.kafka.eviction import RETRY_BACKOFF_MS, Assignments, GroupMember
from services.runtime.kafka.producer import NAME, Producer
from services.runtime.kafka.rest import USUAL, Pace, Rest
from services.runtime.telemetry import metrics, trace
from services.runtime.telemetry.log import log
from services.runtime.unavailable import Unavailable, dependency_of

FETCH_WAIT_MS = 500
BATCH_RECORDS_MAX = 500
RETRY_MIN_S, RETRY_MAX_S = 0.1, 2.0
POLL_MS = 500
RESTLESS_S = 1.0
"""For so long after an assignment nobody rests."""
COMMIT_EVERY_S = 0.5
"""Offsets move this often; what a successor does again is known to the ledger and the stores."""

_log = log(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """A record as it came: what it says, where it stood, which trace it belongs to."""

    record: AnyRecord
    topic: str
    partition: int
    offset: int
    traceparent: str | None


Handle = Callable[[Sequence[Received]], Awaitable[None]]
"""Returns when the work of a batch is durable; the batch is in order within each partition."""


@dataclass(eq=False, slots=True)
class _Turn:
    """What was worked on between two rebalances."""

    fresh: set[int] = field(default_factory=set)
    """The partitions of which nothing was worked on yet."""
    done: dict[TopicPartition, int] = field(default_factory=dict)
    """Where the work goes on, as far as that is not committed."""


class _Turns(Assignments):
    """Begins a turn with every rebalance, so that a batch of an older one moves no offset.

    A partition that stayed goes on where it was; others begin where their offset was committed.
    """

    def __init__(self, member: Callable[[], GroupMember]) -> None:
        self._member = member
        self._begun = asyncio.Event()
        self._begun_at = 0.0
        self._before = self.now = _Turn()

    def revoked(self) -> None:
        """Move no offset until there is an assignment."""
        self._before, self.now = self.now, _Turn()

    def assigned(self, partitions: frozenset[int]) -> None:
        """Begin with these partitions."""
        self.now, member = _Turn(set(partitions)), self._member()
        for tp, offset in self._before.done.items():
            if tp.partition in member.stayed:
                member.seek(tp, offset)
                self.now.done[tp] = offset
        self._begun.set()
        self._begun_at = asyncio.get_running_loop().time()

    async def rest(self, rest_s: float) -> None:
        """Wait for so long, but not when new partitions have come: they have waited enough."""
        self._begun.clear()
        if asyncio.get_running_loop().time() < self._begun_at + RESTLESS_S:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(rest_s):
                await self._begun.wait()


class Consumer:
    """One member of a consumer group that hands batches of records to a handler.

    When a dependency is away the batch is taken again from its first offset. A record that
    cannot be read, or that alone makes the handler fail otherwise, is put aside as a dead
    letter, so that it never stops its partition. Between batches it rests: records that come
    meanwhile share the next one, which costs less than one for each.
    """

    def __init__(
        self,
        app: App[Any],
        producer: Producer,
        *,
        group: str,
        topic: str,
        handle: Handle,
        assignments: Assignments | None = None,
        after: Sequence[asyncio.Event] = (),
        rest: Rest = USUAL,
    ) -> None:
        self._app = app
        self._producer = producer
        self._group = group
        self._topic = topic
        self._handle = handle
        self._turns = _Turns(lambda: self._member)
        self._member = GroupMember(
            group, app.config, app.lifelines, (self._turns, assignments or Assignments())
        )
        self._after = after
        self._consumer: AIOKafkaConsumer | None = None
        self._finished = asyncio.Event()
        self._failures = 0
        self._pace = Pace(rest, time.time())
        # The library keeps the last assignment on the class, for all groups of a process alike.
        self._assignor = type("Assignor", (StickyPartitionAssignor,), {})
        self._committed_at = 0.0
        app.health.add(f"consumer of {topic}", self._probe)
        app.on_stop(f"consumer-{topic}", self._close)
        app.spawn(f"consume-{topic}", self._keep())
        app.lifelines.enter(self._member)

    async def _keep(self) -> None:
        try:
            for event in self._after:
                await event.wait()
            while not self._app.stopping.is_set():
                consumer = await self._connect()
                try:
                    await self._consume(consumer)
                except KafkaError as error:
                    _log.warning("consumer_replaced", topic=self._topic, error=repr(error))
                    await asyncio.sleep(RETRY_MIN_S)
                finally:
                    self._consumer = None
                    await consumer.stop()
                    self._member.detach()
        finally:
            self._finished.set()

    async def _connect(self) -> AIOKafkaConsumer:
        while True:
            address = self._app.config.kafka_address or await self._app.discovery.address(NAME)
            consumer = AIOKafkaConsumer(
                bootstrap_servers=address,
                group_id=self._group,
                client_id=self._member.client_id,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                partition_assignment_strategy=[self._assignor],
                session_timeout_ms=SESSION_TIMEOUT_MS,
                heartbeat_interval_ms=HEARTBEAT_MS,
                rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
                fetch_max_wait_ms=FETCH_WAIT_MS,
                retry_backoff_ms=RETRY_BACKOFF_MS,
            )
            consumer.subscribe([self._topic], listener=self._member)
            self._member.attach(consumer)
            try:
                await topics.ensure(address, [self._topic])
                await self._app.lifelines.gathered()
                await consumer.start()
            except (KafkaError, OSError, TimeoutError) as error:
                _log.warning("kafka_not_reached", error=repr(error))
                await consumer.stop()
                self._member.detach()
                await asyncio.sleep(RETRY_MIN_S)
                continue
            self._consumer = consumer
            return consumer

    async def _consume(self, consumer: AIOKafkaConsumer) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while not self._app.stopping.is_set():
                found: Mapping[TopicPartition, list[ConsumerRecord]] = await consumer.getmany(
                    timeout_ms=POLL_MS, max_records=BATCH_RECORDS_MAX
                )
                started = clock()
                records = sum(map(len, found.values()))
                if resting := 0 < records < BATCH_RECORDS_MAX:
                    # A Fetch that waited meanwhile would be answered with the first record to
                    # come, and all others would wait until the batch after that one.
                    consumer.pause(*consumer.assignment())
                if found:
                    await self._batch(consumer, found)
                if started >= self._committed_at + COMMIT_EVERY_S:
                    await self._commit(consumer)
                    self._committed_at = started
                if resting:
                    spent_s, partitions = clock() - started, len(consumer.assignment())
                    rest_s = self._pace.after(records, partitions, spent_s, time.time())
                    await self._turns.rest(rest_s)
                    consumer.resume(*consumer.paused())
        finally:
            await self._commit(consumer)

    async def _batch(
        self, consumer: AIOKafkaConsumer, found: Mapping[TopicPartition, list[ConsumerRecord]]
    ) -> None:
        """Have a batch worked on, or take it again when a dependency is away."""
        turn = self._turns.now
        try:
            await self._work([record for records in found.values() for record in records])
        except Exception as error:
            dependency = dependency_of(error)
            if dependency is None:
                raise
            await self._go_back(consumer, found, dependency)
            return
        self._failures = 0
        turn.done |= {tp: records[-1].offset + 1 for tp, records in found.items()}
        metrics.records_consumed.labels(self._topic).inc(sum(map(len, found.values())))
        for tp, records in found.items():
            if tp.partition in turn.fresh and turn is self._turns.now:
                turn.fresh.discard(tp.partition)
                self._first_processed(tp.partition, records)

    def _first_processed(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        _log.info(
            "first_processed",
            group=self._group,
            partition=partition,
            generation=self._member.generation,
            offsets=[records[0].offset, records[-1].offset],
            monotonic_s=time.monotonic(),
        )

    async def _work(self, raw: Sequence[ConsumerRecord]) -> None:
        batch = [received for record in raw if (received := await self._read(record)) is not None]
        try:
            await self._handle(batch)
        except Exception as error:
            if dependency_of(error) is not None:
                raise
            if len(raw) > 1:
                _log.error("batch_failed", topic=self._topic, records=len(raw), exc_info=error)
                for record in raw:
                    await self._work([record])
                return
            _log.error("record_failed", topic=self._topic, offset=raw[0].offset, exc_info=error)
            await bury(self._producer, raw[0], "handler_failed", type(error).__name__)

    async def _read(self, raw: ConsumerRecord) -> Received | None:
        headers = dict(raw.headers)
        traceparent = headers.get(trace.HEADER)
        try:
            record = decode(raw.value or b"")
        except Poison as error:
            await bury(self._producer, raw, "unreadable", str(error))
            return None
        return Received(
            record, raw.topic, raw.partition, raw.offset, traceparent and traceparent.decode()
        )

    async def _go_back(
        self,
        consumer: AIOKafkaConsumer,
        found: Mapping[TopicPartition, list[ConsumerRecord]],
        dependency: str,
    ) -> None:
        """Wait a little and take the same batch again, as far as it is still ours."""
        metrics.batch_retries.labels(dependency).inc()
        _log.warning("batch_waits", topic=self._topic, dependency=dependency)
        wait_s = min(RETRY_MAX_S, RETRY_MIN_S * 2**self._failures)
        self._failures += 1
        await asyncio.sleep(wait_s)
        for partition, records in found.items():
            if partition in consumer.assignment():
                consumer.seek(partition, records[0].offset)

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """Move the offsets behind all work that is durable, unless a rebalance has begun."""
        async with self._member.committing:
            turn = self._turns.now
            if self._member.joining or not turn.done:
                return
            offsets, turn.done = turn.done, {}
            try:
                await consumer.commit(offsets)
            except (CommitFailedError, IllegalStateError) as error:
                _log.info("commit_refused", topic=self._topic, error=type(error).__name__)
        for tp, offset in offsets.items():
            end = consumer.highwater(tp)
            if end is not None:
                metrics.consumer_lag.labels(self._topic, tp.partition).set(end - offset)

    async def _probe(self) -> None:
        if self._consumer is None:
            raise Unavailable(NAME, "the consumer is not connected")

    async def _close(self) -> None:
        """Let the batch at hand finish and be committed, then leave the group."""
        self._app.stopping.set()
        await self._finished.wait()


async def by_lane(
    batch: Sequence[Received],
    lane: Callable[[Received], object],
    work: Callable[[Received], Awaitable[None]],
) -> None:
    """Work on the records of each lane in order, and on different lanes side by side."""
    lanes: dict[object, list[Received]] = {}
    for received in batch:
        lanes.setdefault(lane(received), []).append(received)

    async def follow(records: list[Received]) -> None:
        for received in records:
            trace.current.set(trace.proceed(received.traceparent))
            await work(received)

    results = await asyncio.gather(*map(follow, lanes.values()), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
