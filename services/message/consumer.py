"""Applies what connectors report about deliveries, one update for each message of a batch."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from services.contracts.records import DeadLetter, Reason, StatusChanged, encode
from services.contracts.status import Status
from services.contracts.topics import CONVERSATION_EVENTS, DEAD_LETTERS
from services.message.letters import Letter, LetterStore, of_delivery
from services.message.messages import Delivery, Message
from services.message.statuses import fold, targets
from services.message.store import MessageStore, at_once
from services.runtime.kafka.consumer import Received
from services.runtime.kafka.producer import Outgoing, Producer
from services.runtime.mongo import NAME as MONGODB
from services.runtime.telemetry.log import log
from services.runtime.unavailable import Unavailable

ROUNDS_MAX = 10
"""How often others may change the same messages under one batch."""
PAUSE_RATIO, SPREAD_S = 2.0, 0.5
"""How long the parts of a batch are apart, measured by the last one, and how long all of them may
take for that: who waits for an answer of the API waits for one part, and what it keeps busy behind
it, not for all. A batch that is too long for it has no time to lose."""

_log = log(__name__)


class StatusConsumer:
    """Brings messages up to the evidence of a batch, then tells who watches them."""

    def __init__(self, messages: MessageStore, letters: LetterStore, producer: Producer) -> None:
        self._messages = messages
        self._letters = letters
        self._producer = producer

    async def handle(self, batch: Sequence[Received]) -> None:
        """Return when the evidence is stored and the state it led to is published."""
        updates: dict[UUID, list[StatusChanged]] = {}
        traces: dict[UUID, str | None] = {}
        for received in batch:
            if isinstance(record := received.record, StatusChanged):
                updates.setdefault(record.message_id, []).append(record)
                traces[record.message_id] = received.traceparent
        changed: dict[UUID, Message] = {}
        parts = list(at_once(list(updates)))
        clock = asyncio.get_running_loop().time
        ends_at = clock() + SPREAD_S
        for number, some in enumerate(parts, 1):
            began, left = clock(), len(parts) - number
            part = await self._apply({key: updates[key] for key in some})
            await self._bury(part, updates)
            changed |= part
            if left:
                await asyncio.sleep(pause_s(clock() - began, (ends_at - clock()) / left))
        # Where messages stand now is told also of those that nothing changed: it may be the second
        # time that they are worked on.
        events = [
            Outgoing(CONVERSATION_EVENTS, str(one.conversation_id), one.changed(), traces[one.id])
            for one in changed.values()
        ]
        await self._producer.publish([*events, *_unusable(batch, changed)])

    async def _apply(self, updates: Mapping[UUID, Sequence[StatusChanged]]) -> dict[UUID, Message]:
        """Return the messages with the evidence in them, as they are stored."""
        for _ in range(ROUNDS_MAX):
            recent = self._messages.recent(updates)
            stored = recent | await self._messages.find_many(updates.keys() - recent.keys())
            changed = {key: fold(message, updates[key]) for key, message in stored.items()}
            if known := [key for key, message in recent.items() if changed[key] is message]:
                # What was learned before may have led further since, elsewhere.
                self._messages.forget(known)
                continue
            changes = [
                (stored[key], message)
                for key, message in changed.items()
                if message is not stored[key]
            ]
            if not changes or await self._messages.replace_deliveries(changes):
                return changed
        raise Unavailable(MONGODB, "others keep changing the same messages")

    async def _bury(
        self, changed: Mapping[UUID, Message], updates: Mapping[UUID, Sequence[StatusChanged]]
    ) -> None:
        """Keep a dead letter of each delivery that failed, and none of what did not after all."""
        dead: list[Letter] = []
        alive: list[Letter] = []
        for message_id, message in changed.items():
            told = {(one.recipient_id, one.channel): one.attempts for one in updates[message_id]}
            for delivery in message.deliveries:
                attempts = told.get((delivery.recipient_id, delivery.channel))
                if attempts is None or not _failed_once(delivery):
                    continue
                letter = of_delivery(message, delivery, attempts)
                (dead if delivery.status is Status.FAILED else alive).append(letter)
        await self._letters.add(dead)
        await self._letters.withdraw([letter.id for letter in alive])


def pause_s(spent_s: float, time_left_s: float) -> float:
    """Return how long to pause behind a part; each of the others has so much time left."""
    return max(0.0, min(PAUSE_RATIO * spent_s, time_left_s - spent_s))


def _failed_once(delivery: Delivery) -> bool:
    return any(
        entry.status is Status.FAILED and entry.replay_no == delivery.replay_no
        for entry in delivery.history
    )


def _unusable(batch: Sequence[Received], changed: Mapping[UUID, Message]) -> Iterable[Outgoing]:
    """Yield as dead letters the records that name no delivery of ours."""
    for received in batch:
        record = received.record
        if not isinstance(record, StatusChanged):
            yield _letter(
                received, "", "unexpected_record", f"{type(record).__name__} is no status"
            )
            continue
        message = changed.get(record.message_id)
        if message is None or (record.recipient_id, record.channel) not in targets(message):
            detail = f"message {record.message_id} has no such delivery"
            yield _letter(received, str(record.conversation_id), "unknown_delivery", detail)


def _letter(received: Received, key: str, code: str, detail: str) -> Outgoing:
    _log.error("record_dead", topic=received.topic, offset=received.offset, code=code)
    letter = DeadLetter(
        topic=received.topic,
        partition=received.partition,
        offset=received.offset,
        key=key.encode(),
        value=encode(received.record),
        reason=Reason(code, detail),
        at=datetime.now(UTC),
    )
    return Outgoing(DEAD_LETTERS, received.topic, letter, received.traceparent)
