"""Lanes over a ledger in memory, and a worker that finishes rows when it may."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, cast
from uuid import UUID, uuid4

from services.connectors.lanes import Lanes
from services.connectors.rows import Claim, Lane, Row
from services.connectors.tests import doubles
from services.connectors.worker import Attempt, Step, Tenure


class Book:
    """The ledger in memory: unfinished rows by lane, and the epochs."""

    def __init__(self) -> None:
        self.rows: defaultdict[Lane, list[Row]] = defaultdict(list)
        self.epochs: Counter[int] = Counter()
        self.heads = self.asked = self.regained = 0
        self.unowned: set[int] = set()
        self.errors: list[Exception] = []
        self.reading = asyncio.Event()
        self.reading.set()

    def add(self, lane: Lane, account: str = "main") -> Row:
        """Store a delivery at the tail of a lane."""
        row = doubles.row(
            partition=lane.partition,
            conversation_id=lane.conversation_id,
            recipient_id=lane.recipient_id,
            account=account,
        )
        self.rows[lane].append(row)
        return row

    async def own(
        self, partitions: Sequence[int], held: dict[int, int], *, regain: bool = False
    ) -> dict[int, int]:
        """Keep or raise epochs; to regain only those that nobody owns."""
        if self.errors:
            raise self.errors.pop(0)
        self.regained += regain
        epochs = {}
        for partition in partitions:
            if held.get(partition) == self.epochs[partition] or (
                regain and partition not in self.unowned
            ):
                epochs[partition] = held.get(partition, 0)
                continue
            self.epochs[partition] += 1
            epochs[partition] = self.epochs[partition]
        return epochs

    async def release(self, partitions: Sequence[int]) -> None:
        """Note what is owned no more."""
        self.unowned |= set(partitions)

    async def lanes(
        self, partition: int, most: int, account: str | None = None
    ) -> list[tuple[Lane, str]]:
        """Return lanes with rows as they were when asked."""
        self.asked += 1
        found = [
            (lane, rows[0].account)
            for lane, rows in self.rows.items()
            if rows and lane.partition == partition and account in (None, rows[0].account)
        ]
        await self.reading.wait()
        taken: Counter[str] = Counter()
        return [one for one in found if taken.update([one[1]]) or taken[one[1]] <= most]

    async def head(self, lane: Lane) -> Row | None:
        """Return the first row of a lane."""
        self.heads += 1
        await asyncio.sleep(0)
        return self.rows[lane][0] if self.rows[lane] else None


class Hands:
    """A worker that finishes rows when it may, and keeps the order in which it did."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.done: list[Row] = []
        self.at_hand: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.free: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.attempting: set[Any] = set()
        self.uninterruptible = False
        self.admits = False
        self.inverted: list[Row] = []
        self.step = Step(settled=True)

    async def admit(self, row: Row, tenure: Tenure) -> Attempt | None:
        """Admit rows while there is nothing to wait for."""
        if not self.admits or tenure.ended or not tenure.open.is_set():
            return None
        return Attempt(
            Claim(row, tenure.epoch, row.message_id), cast("Any", None), cast("Any", None)
        )

    async def carry_out(self, attempt: Attempt) -> Step:
        """Finish a row that was admitted, once it is claimed."""
        try:
            if not await attempt.claimed:
                return Step(settled=False)
            return await self._finish(attempt.claim.row)
        finally:
            self.attempting.discard(asyncio.current_task())

    async def work(self, row: Row, tenure: Tenure) -> Step:
        """Finish a row once its account is free."""
        await tenure.open.wait()
        return await self._finish(row)

    async def _finish(self, row: Row) -> Step:
        task = asyncio.current_task()
        if self.uninterruptible:
            self.attempting.add(task)
        self.at_hand[row.account] += 1
        self.most[row.account] = max(self.most[row.account], self.at_hand[row.account])
        try:
            await self.free[row.account].wait()
        finally:
            self.at_hand[row.account] -= 1
            self.attempting.discard(task)
        if self.step.settled:
            if self.book.rows[row.lane][0] is not row:
                self.inverted.append(row)
            self.book.rows[row.lane].remove(row)
            self.done.append(row)
        return self.step


class Site:
    """Lanes of two accounts over a book."""

    def __init__(self) -> None:
        self.book, self.results, self.clock = Book(), doubles.Results(), doubles.Clock()
        self.hands = Hands(self.book)
        self.resumed: list[int] = []
        self.lanes = Lanes(
            cast("Any", self.book),
            cast("Any", self.results),
            cast("Any", self.hands),
            self.clock,
        )

    def free(self, *accounts: str) -> None:
        """Let accounts send."""
        for account in accounts:
            self.hands.free[account].set()

    def deliver(self, lane: Lane, account: str = "main") -> Row:
        """Store a delivery and say so, as the intake does."""
        row = self.book.add(lane, account)
        self.lanes.touch(lane, account, row)
        return row

    async def take_in(self, lane: Lane, *, won: bool = True) -> Row | None:
        """Store a delivery as the intake does; return it if its lane began with it before."""
        row = doubles.row(
            partition=lane.partition,
            conversation_id=lane.conversation_id,
            recipient_id=lane.recipient_id,
        )
        attempt = await self.lanes.admit(row)
        await asyncio.sleep(0)
        self.book.rows[lane].append(row)
        if attempt is None:
            self.lanes.touch(lane, row.account, row)
            return None
        attempt.claimed.set_result(won)
        return row

    async def own(self, *partitions: int) -> None:
        """Be assigned partitions and wait until they are loaded."""
        self.lanes.revoked()
        self.lanes.assigned(frozenset(partitions))
        await self.until(
            lambda: (
                sorted(self.lanes.partitions) == sorted(partitions)
                and all(p.loaded_at is not None for p in self.lanes._owned.values())
            )
        )

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(10):
            while not met():
                await asyncio.sleep(0)


def lane(partition: int = 3, conversation: UUID | None = None) -> Lane:
    """Return a lane."""
    return Lane(partition, conversation or uuid4(), uuid4())
