"""Puts records aside that nobody can work on, with where they stood and why."""

from datetime import UTC, datetime

from aiokafka import ConsumerRecord

from services.contracts.records import DeadLetter, Reason
from services.contracts.topics import DEAD_LETTERS
from services.runtime.kafka.producer import Outgoing, Producer
from services.runtime.telemetry import metrics
from services.runtime.telemetry.log import log

_log = log(__name__)


async def bury(producer: Producer, raw: ConsumerRecord, code: str, detail: str) -> None:
    """Publish a record as a dead letter; raise Unavailable when Kafka does not take it."""
    letter = DeadLetter(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        key=raw.key or b"",
        value=raw.value or b"",
        reason=Reason(code, detail),
        at=datetime.now(UTC),
    )
    await producer.publish([Outgoing(DEAD_LETTERS, raw.topic, letter)])
    metrics.records_dead.labels(raw.topic, code).inc()
    _log.error("record_dead", topic=raw.topic, offset=raw.offset, code=code, detail=detail)
