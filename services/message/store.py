"""The collections `messages` and `conversations`: nobody but this service writes them."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from services.contracts.channels import INTERNAL
from services.contracts.status import Status
from services.message.cache import Cache
from services.message.conversations import PARTICIPANTS_MAX, Conversation, Participant
from services.message.messages import Direction, Message, Order
from services.runtime.app import App
from services.runtime.mongo import NAME as MONGODB
from services.runtime.mongo import Document, Mongo
from services.runtime.telemetry.log import log
from services.runtime.unavailable import Unavailable

INDEX_RETRY_S = 1.0
DUPLICATE_KEY = 11000
AT_ONCE_MAX = 16
"""Documents that one command reads or changes: a server may let others wait meanwhile, and so does
the process that makes something of them."""
RECENT_MAX, RECENT_LENGTH_MAX, RECENT_DELIVERIES_MAX = 2_000, 1_000, 2
"""Messages that are remembered: most of what is told of one comes within seconds. Long ones, and
those to groups, are not, so that they fit into the memory that the job gives."""
INDEXES = {
    "messages": [
        IndexModel([("conversation_id", ASCENDING), ("seq", ASCENDING)], unique=True),
        IndexModel(
            [("idempotency_key", ASCENDING)],
            unique=True,
            partialFilterExpression={"idempotency_key": {"$type": "string"}},
        ),
        IndexModel(
            [("sweep_at", ASCENDING)], partialFilterExpression={"status": Status.PENDING.value}
        ),
    ],
    "conversations": [
        IndexModel(
            [("contact_key", ASCENDING)],
            unique=True,
            partialFilterExpression={"contact_key": {"$type": "string"}},
        ),
        IndexModel([("participants.user_id", ASCENDING), ("_id", DESCENDING)]),
    ],
    "dead_letters": [IndexModel([("at", DESCENDING), ("_id", DESCENDING)])],
}
HOLDS_MESSAGE: Document = {"direction": {"$exists": True}}
"""Of the places in a history, those that are no fence."""
_UNCHANGED = (UUID, datetime)
_DIRECTIONS = {Order.ASC: ("$gt", ASCENDING), Order.DESC: ("$lt", DESCENDING)}
S = TypeVar("S", bound=Struct)
T = TypeVar("T")
_log = log(__name__)


def at_once(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the items in as few parts as one command may have."""
    for start in range(0, len(items), AT_ONCE_MAX):
        yield items[start : start + AT_ONCE_MAX]


def to_document(value: Struct) -> Document:
    """Return what MongoDB stores of a struct."""
    document: Document = msgspec.to_builtins(value, builtin_types=_UNCHANGED)
    return document


def _read(document: Document | None, kind: type[S]) -> S | None:
    return None if document is None else msgspec.convert(document, kind)


class Indexes:
    """Makes the indexes that do not exist yet as soon as MongoDB is there; ready only with them."""

    def __init__(self, app: App[Any], mongo: Mongo) -> None:
        self._mongo = mongo
        self._made = False
        app.health.add("indexes", self._probe)
        app.spawn("indexes", self._keep_trying())

    async def _keep_trying(self) -> None:
        while not self._made:
            try:
                async with self._mongo.database() as database:
                    for collection, indexes in INDEXES.items():
                        await database[collection].create_indexes(indexes)
                self._made = True
            except (PyMongoError, Unavailable) as error:
                _log.warning("indexes_wait", error=str(error)[:200])
                await asyncio.sleep(INDEX_RETRY_S)

    async def _probe(self) -> None:
        if not self._made:
            raise Unavailable(MONGODB, "its indexes are not made yet")


class MessageStore:
    """Messages, each changed only by a condition on its `rev` or its status."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._recent: Cache[UUID, Message] = Cache(RECENT_MAX)

    def recent(self, message_ids: Collection[UUID]) -> dict[UUID, Message]:
        """Return those that this process wrote lately; others may have changed them since.

        Whoever changes one is told by `replace_deliveries`.
        """
        found = ((one, self._recent.get(one)) for one in message_ids)
        return {one: message for one, message in found if message is not None}

    def _remember(self, messages: Iterable[Message]) -> None:
        """Remember messages on their way as they were written just now, those that are small."""
        for message in messages:
            few = 0 < len(message.deliveries) <= RECENT_DELIVERIES_MAX
            if few and len(message.content or "") <= RECENT_LENGTH_MAX:
                self._recent.put(message.id, message)

    def forget(self, message_ids: Iterable[UUID]) -> None:
        """Remember these no longer."""
        for message_id in message_ids:
            self._recent.drop(message_id)

    async def insert(self, messages: Sequence[Message]) -> set[int]:
        """Store new messages in one write; return the positions of those that an index refused."""
        refused: set[int] = set()
        if not messages:
            return refused
        try:
            async with self._mongo.database() as database:
                await database.messages.insert_many(map(to_document, messages), ordered=False)
        except BulkWriteError as error:
            details = error.details or {}
            if details.get("writeConcernErrors") or any(
                one["code"] != DUPLICATE_KEY for one in details["writeErrors"]
            ):
                raise
            refused = {one["index"] for one in details["writeErrors"]}
        self._remember(one for place, one in enumerate(messages) if place not in refused)
        return refused

    async def find(self, message_id: UUID) -> Message | None:
        """Return a message."""
        async with self._mongo.database() as database:
            return _read(await database.messages.find_one({"_id": message_id}), Message)

    async def find_many(self, message_ids: Collection[UUID]) -> dict[UUID, Message]:
        """Return those of the messages that exist, by id."""
        messages: dict[UUID, Message] = {}
        for ids in at_once(list(message_ids)):
            async with self._mongo.database() as database:
                found = database.messages.find({"_id": {"$in": ids}})
                messages |= {one["_id"]: msgspec.convert(one, Message) async for one in found}
        return messages

    async def find_same(
        self, message_id: UUID | None, idempotency_key: str | None
    ) -> Message | None:
        """Return the message that was accepted under an id or an idempotency key."""
        found = await self._find_named([(message_id, idempotency_key)])
        return found[0] if found else None

    async def find_all_same(self, messages: Collection[Message]) -> list[Message | None]:
        """Return for each message the one that was accepted under its id or idempotency key."""
        found = await self._find_named([(one.id, one.idempotency_key) for one in messages])
        by_id = {one.id: one for one in found}
        by_key = {one.idempotency_key: one for one in found if one.idempotency_key}
        return [by_id.get(one.id) or by_key.get(one.idempotency_key or "") for one in messages]

    async def _find_named(self, names: Sequence[tuple[UUID | None, str | None]]) -> list[Message]:
        ids = [message_id for message_id, _ in names if message_id is not None]
        keys = [key for _, key in names if key is not None]
        found: list[Message] = []
        async with self._mongo.database() as database:
            for field, values in (("_id", ids), ("idempotency_key", keys)):
                if values:
                    query = {field: {"$in": values}}
                    found += [
                        msgspec.convert(one, Message) async for one in database.messages.find(query)
                    ]
        return found

    async def replace_deliveries(self, changes: Sequence[tuple[Message, Message]]) -> bool:
        """Write changed deliveries over the revisions they were made from.

        Return False when a message was changed meanwhile; the others are written all the same.
        """
        updates = [
            UpdateOne({"_id": old.id, "rev": old.rev}, {"$set": _difference(old, new)})
            for old, new in changes
        ]
        matched = 0
        for some in at_once(updates):
            async with self._mongo.database() as database:
                result = await database.messages.bulk_write(some, ordered=False)
            matched += result.matched_count
        if matched < len(updates):
            self.forget(old.id for old, _ in changes)
            return False
        self._remember(new for _, new in changes)
        return True

    async def mark_read(self, message_id: UUID, at: datetime) -> Message | None:
        """Note that an inbound message was read, once; return it as it is then."""
        async with self._mongo.database() as database:
            await database.messages.update_one(
                {
                    "_id": message_id,
                    "direction": Direction.INBOUND.value,
                    "status": Status.DELIVERED.value,
                },
                {"$set": {"status": Status.READ.value, "read_at": at}, "$inc": {"rev": 1}},
            )
        return await self.find(message_id)

    async def page(
        self, conversation_id: UUID, order: Order, after: int | None, limit: int
    ) -> list[Message]:
        """Return messages of a conversation by seq, from behind a place on."""
        comparison, direction = _DIRECTIONS[order]
        query: Document = {"conversation_id": conversation_id, **HOLDS_MESSAGE}
        if after is not None:
            query["seq"] = {comparison: after}
        async with self._mongo.database() as database:
            found = database.messages.find(query).sort("seq", direction).limit(limit)
            return [msgspec.convert(one, Message) async for one in found]

    async def overdue(self, at: datetime, limit: int) -> list[Message]:
        """Return messages that stayed PENDING for too long, the longest first."""
        query = {"status": Status.PENDING.value, "sweep_at": {"$lte": at}}
        async with self._mongo.database() as database:
            found = database.messages.find(query).sort("sweep_at", ASCENDING).limit(limit)
            return [msgspec.convert(one, Message) async for one in found]

    async def postpone(self, messages: Sequence[Message], sweep_at: datetime) -> None:
        """Let messages be overdue again not before a time."""
        async with self._mongo.database() as database:
            await database.messages.update_many(
                {"_id": {"$in": [message.id for message in messages]}},
                {"$set": {"sweep_at": sweep_at}},
            )


def _difference(old: Message, new: Message) -> Document:
    changed: Document = {"status": new.status.value, "rev": new.rev}
    for index, (before, after) in enumerate(zip(old.deliveries, new.deliveries, strict=True)):
        if before != after:
            changed[f"deliveries.{index}"] = to_document(after)
    return changed


class ConversationStore:
    """Conversations; `version` moves with every participant, the rest with every message."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def find(self, conversation_id: UUID) -> Conversation | None:
        """Return a conversation."""
        async with self._mongo.database() as database:
            found = await database.conversations.find_one({"_id": conversation_id})
        return _read(found, Conversation)

    async def find_many(self, conversation_ids: Sequence[UUID]) -> list[Conversation | None]:
        """Return each of the conversations, None for one that does not exist."""
        query = {"_id": {"$in": list(set(conversation_ids))}}
        async with self._mongo.database() as database:
            found = {one["_id"]: one async for one in database.conversations.find(query)}
        return [_read(found.get(one), Conversation) for one in conversation_ids]

    async def insert(self, conversation: Conversation) -> None:
        """Store a new conversation."""
        async with self._mongo.database() as database:
            await database.conversations.insert_one(to_document(conversation))

    async def add_participant(
        self, conversation_id: UUID, participant: Participant
    ) -> Conversation | None:
        """Let somebody take part, once; None when there is no room or no conversation."""
        return await self._change(
            {
                "_id": conversation_id,
                "participants.user_id": {"$ne": participant.user_id},
                f"participants.{PARTICIPANTS_MAX - 1}": {"$exists": False},
            },
            {"$push": {"participants": to_document(participant)}, "$inc": {"version": 1}},
        )

    async def remove_participant(self, conversation_id: UUID, user_id: UUID) -> Conversation | None:
        """Let somebody take part no more; None when they did not.

        The customer's next message opens another conversation, so this one gives up its key.
        """
        return await self._change(
            {"_id": conversation_id, "participants.user_id": user_id},
            {
                "$pull": {"participants": {"user_id": user_id}},
                "$inc": {"version": 1},
                "$unset": {"contact_key": ""},
            },
        )

    async def archive(self, conversation_id: UUID, at: datetime) -> Conversation | None:
        """Archive a conversation until something is said in it again."""
        return await self._change({"_id": conversation_id}, {"$set": {"archived_at": at}})

    async def _change(self, query: Document, update: Document) -> Conversation | None:
        async with self._mongo.database() as database:
            found = await database.conversations.find_one_and_update(
                query, update, return_document=ReturnDocument.AFTER
            )
        return _read(found, Conversation)

    async def page(
        self, participant_id: UUID | None, after: UUID | None, limit: int
    ) -> list[Conversation]:
        """Return conversations, the newest first, from behind one on."""
        query: Document = {}
        if participant_id is not None:
            query["participants.user_id"] = participant_id
        if after is not None:
            query["_id"] = {"$lt": after}
        async with self._mongo.database() as database:
            found = database.conversations.find(query).sort("_id", DESCENDING).limit(limit)
            return [msgspec.convert(one, Conversation) async for one in found]

    async def find_contact(self, user_id: UUID, channel: str, account: str) -> Conversation | None:
        """Return where a customer last talked, on the channel or else on another one.

        Among two rather than in a group, and never where they write to another account of ours.
        """
        free = {"$in": [account, None]}
        theirs: Document = {"participants.user_id": user_id, f"accounts.{channel}": free}
        here = {**theirs, "primary_channel": channel, "account": free}
        elsewhere = {**theirs, "primary_channel": {"$nin": [channel, INTERNAL]}}
        two = {"participants.2": {"$exists": False}}
        for query in ({**here, **two}, here, {**elsewhere, **two}, elsewhere):
            async with self._mongo.database() as database:
                found = await database.conversations.find_one(
                    query, sort=[("last_activity_at", DESCENDING)]
                )
            if found is not None:
                return _read(found, Conversation)
        return None

    async def learn_account(self, conversation_id: UUID, channel: str, account: str) -> None:
        """Note which account of ours the customer writes to on a channel, unless one is noted."""
        field = f"accounts.{channel}"
        await self._change(
            {"_id": conversation_id, field: {"$exists": False}},
            {"$set": {field: account}, "$inc": {"version": 1}},
        )

    async def open_contact(self, conversation: Conversation) -> Conversation | None:
        """Store a conversation unless there is one of its contact key; return that or this."""
        try:
            await self.insert(conversation)
        except DuplicateKeyError:
            async with self._mongo.database() as database:
                found = await database.conversations.find_one(
                    {"contact_key": conversation.contact_key}
                )
            return _read(found, Conversation)
        return conversation
