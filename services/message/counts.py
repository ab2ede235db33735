"""Writes down where conversations stand: a while after the fact and many at a time.

A history knows by itself where it ends. What its conversation says of that is for those who look
at conversations, and for a start after a crash, so it may come later: whoever needs it asks for it
to be written now.
"""

import asyncio
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from pymongo import UpdateOne

from services.message.store import at_once
from services.runtime.mongo import Document, Mongo
from services.runtime.telemetry.log import log

LATER_S = 2.0
"""How long counts wait for more, unless somebody asks for them."""
_log = log(__name__)


class Count(Struct, frozen=True):
    """A conversation's last place, the number of its messages up to there, the last one's time.

    No time says that nothing was said: who takes part has changed.
    """

    seq: int
    message_count: int
    last_activity_at: datetime | None

    @property
    def update(self) -> Document:
        """What MongoDB is to do: a count never goes back, and what was said ends an archiving."""
        stands: Document = {"seq": self.seq, "message_count": self.message_count}
        if self.last_activity_at is None:
            return {"$max": stands}
        stands["last_activity_at"] = self.last_activity_at
        return {"$max": stands, "$unset": {"archived_at": ""}}


class Counts:
    """The counts that are not written yet, the latest of each conversation."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._latest: dict[UUID, Count] = {}
        self._wanted = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def note(self, conversation_id: UUID, count: Count) -> None:
        """Have a count written later, unless a later one is noted."""
        noted = self._latest.get(conversation_id)
        if noted is None or noted.seq < count.seq:
            self._latest[conversation_id] = count
        if self._writing is None:
            self._begin()

    async def written(self) -> None:
        """Return when all that was noted here before is written, if it can be."""
        # What is being written now was noted before the rest.
        for _ in range(2):
            if self._writing is None:
                return
            self._wanted.set()
            await asyncio.wait([self._writing])

    def _begin(self) -> None:
        self._wanted.clear()
        self._writing = asyncio.create_task(self._write_later(), name="history-counts")
        self._writing.add_done_callback(self._end)

    def _end(self, writing: asyncio.Task[None]) -> None:
        """Go on with what was noted meanwhile, or could not be written."""
        self._writing = None
        if writing.cancelled():
            return
        if (error := writing.exception()) is not None:
            _log.warning("history_not_counted", error=repr(error)[:200])
        if self._latest:
            self._begin()

    async def _write_later(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LATER_S):
                await self._wanted.wait()
        latest, self._latest = self._latest, {}
        updates = [UpdateOne({"_id": key}, count.update) for key, count in latest.items()]
        try:
            for some in at_once(updates):
                async with self._mongo.database() as database:
                    await database.conversations.bulk_write(some, ordered=False)
        except BaseException:
            self._latest = latest | self._latest
            raise
