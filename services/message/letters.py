"""Dead letters: deliveries that failed, and records that nobody could read or route."""

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from msgspec import Struct, field
from pymongo import DESCENDING, ReturnDocument, UpdateOne

from services.contracts.records import Attempt, DeadLetter, Reason
from services.message.messages import Delivery, Message
from services.message.store import to_document
from services.runtime.mongo import Document, Mongo

Place = tuple[datetime, UUID]
"""Where a letter stands in the list: by its time, the newest first."""


class LetterState(StrEnum):
    """Whether somebody has decided about a dead letter."""

    OPEN = "OPEN"
    REPLAYED = "REPLAYED"
    DROPPED = "DROPPED"


class Action(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who decided what about a letter; `actor` is the id of an API key."""

    action: str
    at: datetime
    actor: str
    reason: str | None = None


class DeadDelivery(Struct, frozen=True, kw_only=True):
    """Which delivery of which message failed; `seq` is the message's place in its history."""

    message_id: UUID
    conversation_id: UUID
    recipient_id: UUID
    channel: str
    seq: int
    replay_no: int


class DeadRecord(Struct, frozen=True, kw_only=True):
    """A record of Kafka and where it stood."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes


class Letter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dead letter as MongoDB keeps it: of a delivery or of a record."""

    id: UUID = field(name="_id")
    state: LetterState
    at: datetime
    reason: Reason
    attempts: tuple[Attempt, ...] = ()
    actions: tuple[Action, ...] = ()
    delivery: DeadDelivery | None = None
    record: DeadRecord | None = None


def of_delivery(message: Message, delivery: Delivery, attempts: Sequence[Attempt]) -> Letter:
    """Return the letter of a delivery that failed, the same for the same replay."""
    name = f"{message.id} {delivery.recipient_id} {delivery.channel} {delivery.replay_no}"
    return Letter(
        id=uuid5(NAMESPACE_URL, name),
        state=LetterState.OPEN,
        at=delivery.updated_at,
        reason=delivery.reason or Reason("failed", "No reason was given."),
        attempts=tuple(attempts),
        delivery=DeadDelivery(
            message_id=message.id,
            conversation_id=message.conversation_id,
            recipient_id=delivery.recipient_id,
            channel=delivery.channel,
            seq=message.seq,
            replay_no=delivery.replay_no,
        ),
    )


def of_record(dead: DeadLetter) -> Letter:
    """Return the letter of a record that could not be read or routed."""
    name = f"{dead.topic} {dead.partition} {dead.offset} {dead.key.hex()}"
    return Letter(
        id=uuid5(NAMESPACE_URL, name),
        state=LetterState.OPEN,
        at=dead.at,
        reason=dead.reason,
        record=DeadRecord(
            topic=dead.topic,
            partition=dead.partition,
            offset=dead.offset,
            key=dead.key,
            value=dead.value,
        ),
    )


class Filter(Struct, frozen=True, kw_only=True):
    """Which letters are wanted."""

    state: LetterState | None = None
    channel: str | None = None
    conversation_id: UUID | None = None
    code: str | None = None

    def query(self) -> Document:
        """Return what MongoDB is asked."""
        wanted = {
            "state": self.state,
            "delivery.channel": self.channel,
            "delivery.conversation_id": self.conversation_id,
            "reason.code": self.code,
        }
        return {
            name: value.value if isinstance(value, StrEnum) else value
            for name, value in wanted.items()
            if value is not None
        }


class LetterStore:
    """The collection `dead_letters`."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def add(self, letters: Sequence[Letter]) -> None:
        """Store letters that are not there yet."""
        if not letters:
            return
        updates = [
            UpdateOne({"_id": one.id}, {"$setOnInsert": to_document(one)}, upsert=True)
            for one in letters
        ]
        async with self._mongo.database() as database:
            await database.dead_letters.bulk_write(updates, ordered=False)

    async def withdraw(self, letter_ids: Collection[UUID]) -> None:
        """Remove open letters of what turned out not to have failed."""
        if letter_ids:
            async with self._mongo.database() as database:
                await database.dead_letters.delete_many(
                    {"_id": {"$in": list(letter_ids)}, "state": LetterState.OPEN.value}
                )

    async def find(self, letter_id: UUID) -> Letter | None:
        """Return a letter."""
        async with self._mongo.database() as database:
            found = await database.dead_letters.find_one({"_id": letter_id})
        return None if found is None else msgspec.convert(found, Letter)

    async def page(self, wanted: Filter, after: Place | None, limit: int) -> list[Letter]:
        """Return letters, the newest first, from behind one on."""
        query = wanted.query()
        if after is not None:
            at, letter_id = after
            query["$or"] = [{"at": {"$lt": at}}, {"at": at, "_id": {"$lt": letter_id}}]
        order = [("at", DESCENDING), ("_id", DESCENDING)]
        async with self._mongo.database() as database:
            found = database.dead_letters.find(query).sort(order).limit(limit)
            return [msgspec.convert(one, Letter) async for one in found]

    async def resolve(self, letter_id: UUID, state: LetterState, action: Action) -> Letter | None:
        """Close an open letter; None when it is not open."""
        async with self._mongo.database() as database:
            found = await database.dead_letters.find_one_and_update(
                {"_id": letter_id, "state": LetterState.OPEN.value},
                {"$set": {"state": state.value}, "$push": {"actions": to_document(action)}},
                return_document=ReturnDocument.AFTER,
            )
        return None if found is None else msgspec.convert(found, Letter)
