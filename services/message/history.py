"""Puts messages into the histories of their conversations: a place for each, many at a time.

A place is the next number behind the conversation's last one. The unique index on (conversation,
place) decides between instances; who loses looks again. So the end of a history is remembered
until somebody else goes on with it, and one write of the messages and one of their conversations
serve all who came meanwhile. A change of who takes part takes a place too, as a fence: whoever
remembers an older end meets it before anything is stored on old knowledge.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError

from services.contracts.ids import new_id
from services.message.cache import Cache
from services.message.conversations import Conversation
from services.message.counts import Count, Counts
from services.message.messages import Message
from services.message.store import MessageStore
from services.runtime.batches import Batches
from services.runtime.mongo import NAME as MONGODB
from services.runtime.mongo import Mongo
from services.runtime.unavailable import Unavailable

APPENDS_MAX = 100
PACE_MIN_S, PACE_S = 0.008, 0.02
"""Messages that come this close together share their writes: the former, however fast they are, as
each write costs as much as several messages, and the latter on a busy machine."""
ROUNDS_MAX = 10
"""How often others may take the places that one batch is after."""
HEADS_MAX = 20_000
HEAD_AGE_MAX_S = 60.0
"""By then it shows if somebody changed the participants and died before the fence stood."""
_HEAD = {"seq": True, "message_count": True, "version": True}
_PLACE = {"seq": True, "direction": True, "accepted_at": True}


class Entry(Struct, frozen=True):
    """A message on its way into a history, and the version of the conversation it was made for.

    No version means that it does not matter who takes part.
    """

    message: Message
    version: int | None


class Appended(Struct, frozen=True):
    """The message as it is stored; not new when it was there before under the same names."""

    message: Message
    is_new: bool


class _Head(Struct, frozen=True):
    """Where a conversation stands: its last place and how many messages there are up to it.

    `read_at` (loop time) is when the version of its participants was read.
    """

    seq: int
    message_count: int
    version: int
    read_at: float


class History:
    """Stores new messages durably, each at a place of its own."""

    def __init__(self, mongo: Mongo, messages: MessageStore) -> None:
        self._mongo = mongo
        self._messages = messages
        self._counts = Counts(mongo)
        self._heads: Cache[UUID, _Head] = Cache(HEADS_MAX)
        self._appends: Batches[Entry, Appended | None] = Batches(
            self._append_many, APPENDS_MAX, PACE_S, pace_min_s=PACE_MIN_S
        )

    async def append(self, message: Message, version: int | None = None) -> Appended | None:
        """Store a message behind the last of its conversation.

        None when the conversation does not exist or is not of this version any more. It is
        counted a moment later; `counted` waits for that.
        """
        return await self._appends.add(Entry(message, version))

    def learn(self, conversation: Conversation, read_at: float) -> None:
        """Remember where a history ends by its conversation, read not before then (loop time)."""
        head = _Head(conversation.seq, conversation.message_count, conversation.version, read_at)
        self._heads.put(conversation.id, self._further(conversation.id, head))

    async def counted(self) -> None:
        """Return when what was stored here is counted in its conversations too, if it can be."""
        await self._counts.written()

    async def _append_many(self, entries: Sequence[Entry]) -> list[Appended | None]:
        outcomes: dict[int, Appended | None] = {}
        for _ in range(ROUNDS_MAX):
            waiting = {index: entry for index, entry in enumerate(entries) if index not in outcomes}
            if not waiting:
                return [outcomes[index] for index in range(len(entries))]
            heads = await self._find_heads(waiting.values())
            placed = _place(waiting, heads)
            outcomes.update(dict.fromkeys(waiting.keys() - placed.keys()))
            refused = await self._insert(placed)
            stored = {index: placed[index] for index in placed.keys() - refused}
            outcomes.update({index: Appended(one, is_new=True) for index, one in stored.items()})
            contested = {placed[index].conversation_id for index in refused}
            self._go_on(stored.values(), heads, contested)
            if refused:
                repeated, behind = await self._settle({i: placed[i] for i in refused}, heads)
                outcomes.update(repeated)
                shared = contested.intersection(one.conversation_id for one in stored.values())
                await self._recount(behind | shared)
        raise _overtaken()

    async def fence(self, conversation_id: UUID) -> None:
        """Take a conversation's next place for no message: who takes part has changed."""
        for _ in range(ROUNDS_MAX):
            self._heads.drop(conversation_id)
            query = {"conversation_id": conversation_id}
            async with self._mongo.database() as database:
                last = await database.messages.find_one(query, sort=[("seq", DESCENDING)])
                seq = last["seq"] + 1 if last is not None else 1
                try:
                    await database.messages.insert_one({"_id": new_id(), **query, "seq": seq})
                except DuplicateKeyError:
                    continue
            await self._recount([conversation_id])
            return
        raise _overtaken()

    async def _find_heads(self, entries: Collection[Entry]) -> dict[UUID, _Head]:
        """Return the heads that are remembered as the messages were made for, and read the rest."""
        since = asyncio.get_running_loop().time() - HEAD_AGE_MAX_S
        heads: dict[UUID, _Head] = {}
        unknown: set[UUID] = set()
        for entry in entries:
            conversation_id = entry.message.conversation_id
            head = self._heads.get(conversation_id)
            if head is None or head.read_at < since or entry.version not in (None, head.version):
                unknown.add(conversation_id)
            else:
                heads[conversation_id] = head
        return heads | await self._read_heads(unknown)

    async def _read_heads(self, conversation_ids: Collection[UUID]) -> dict[UUID, _Head]:
        """Return the heads as they are stored, or further."""
        if not conversation_ids:
            return {}
        query = {"_id": {"$in": list(conversation_ids)}}
        read_at = asyncio.get_running_loop().time()
        async with self._mongo.database() as database:
            found = database.conversations.find(query, _HEAD)
            read = {
                one["_id"]: _Head(one["seq"], one["message_count"], one["version"], read_at)
                async for one in found
            }
        return {one: self._further(one, head) for one, head in read.items()}

    def _further(self, conversation_id: UUID, head: _Head) -> _Head:
        """Return a head as it was read, or further if more is known here than counted."""
        known = self._heads.get(conversation_id)
        if known is None or known.seq <= head.seq:
            return head
        return replace(head, seq=known.seq, message_count=known.message_count)

    def _go_on(
        self,
        stored: Collection[Message],
        heads: Mapping[UUID, _Head],
        contested: Collection[UUID],
    ) -> None:
        """Remember where histories end now and begin to count what was stored.

        Where somebody else went on meanwhile, both have to be read again.
        """
        clean: dict[UUID, list[Message]] = {}
        for message in stored:
            if message.conversation_id not in contested:
                clean.setdefault(message.conversation_id, []).append(message)
        for conversation_id, messages in clean.items():
            last = max(messages, key=lambda message: message.seq)
            head = heads[conversation_id]
            count = head.message_count + len(messages)
            self._heads.put(conversation_id, replace(head, seq=last.seq, message_count=count))
            self._counts.note(conversation_id, Count(last.seq, count, last.accepted_at))

    async def _insert(self, placed: Mapping[int, Message]) -> set[int]:
        """Store messages in one write; return which of them an index refused."""
        for message in placed.values():
            self._heads.drop(message.conversation_id)
        indexes = list(placed)
        refused = await self._messages.insert(list(placed.values()))
        return {indexes[place] for place in refused}

    async def _settle(
        self, refused: Mapping[int, Message], heads: Mapping[UUID, _Head]
    ) -> tuple[dict[int, Appended], set[UUID]]:
        """Return those of the refused that were there before, and conversations that are behind.

        Behind is a conversation with messages that are not counted yet: somebody is about to, or
        died before.
        """
        same = await self._messages.find_all_same(refused.values())
        repeated: dict[int, Appended] = {}
        behind: set[UUID] = set()
        for (index, message), known in zip(refused.items(), same, strict=True):
            taken = known or message
            head = heads.get(taken.conversation_id)
            if head is not None and head.seq < taken.seq:
                behind.add(taken.conversation_id)
            elif known is not None:
                repeated[index] = Appended(known, is_new=False)
        return repeated, behind

    async def _recount(self, conversation_ids: Collection[UUID]) -> None:
        """Bring conversations up to the places that are taken in them since they were counted.

        Whoever goes on where another instance was meets all of its conversations at once.
        """
        if not conversation_ids:
            return
        heads = await self._read_heads(conversation_ids)
        await asyncio.gather(*(self._count(*known) for known in heads.items()))
        await self._counts.written()

    async def _count(self, conversation_id: UUID, head: _Head) -> None:
        """Note where a conversation stands by now."""
        query = {"conversation_id": conversation_id, "seq": {"$gt": head.seq}}
        async with self._mongo.database() as database:
            found = database.messages.find(query, _PLACE).sort("seq", ASCENDING)
            places = [one async for one in found]
        if not places:
            return
        said_at = [one["accepted_at"] for one in places if "direction" in one]
        count = head.message_count + len(said_at)
        last_activity_at = said_at[-1] if said_at else None
        self._counts.note(conversation_id, Count(places[-1]["seq"], count, last_activity_at))


def _place(entries: Mapping[int, Entry], heads: Mapping[UUID, _Head]) -> dict[int, Message]:
    """Return the messages with their places; without those whose conversation is another now."""
    places = {conversation_id: head.seq for conversation_id, head in heads.items()}
    placed: dict[int, Message] = {}
    for index, entry in entries.items():
        conversation_id = entry.message.conversation_id
        head = heads.get(conversation_id)
        if head is None or entry.version not in (None, head.version):
            continue
        places[conversation_id] += 1
        placed[index] = replace(entry.message, seq=places[conversation_id])
    return placed


def _overtaken() -> Unavailable:
    return Unavailable(MONGODB, "others keep taking the next places of a conversation")
