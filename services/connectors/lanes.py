"""Owned partitions and their lanes: who may hand out work, and one task for each busy lane."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from services.connectors.ledger import CLAIM_BOUND_S, Ledger
from services.connectors.results import Results
from services.connectors.rows import Lane, Row
from services.connectors.worker import Attempt, Step, Tenure, Worker
from services.runtime.kafka.eviction import Assignments
from services.runtime.telemetry.log import log
from services.runtime.unavailable import dependency_of

RETRY_S = 0.2
REGAIN_S = 0.1
"""So long after a refused claim it is asked whether its partition was released."""
BUSY_MAX = 1000
"""Lanes of one account that are followed at once; the ledger remembers the others."""
AHEAD_MAX = 8
"""Rows of one lane that are remembered here as well: beyond them each row costs a look-up of its
own until the lane is empty, so what falls behind for a moment should not fall behind for good. More
would not fit into the memory that the job gives if all lanes had the longest texts."""
_log = log(__name__)


@dataclass(eq=False, slots=True)
class _Busy:
    """A lane with a task that follows it.

    `rows` are its next ones as far as they are known here; None says that only the ledger knows
    them. `more` says that there are others behind. `attempt` is at a row before them, which its
    intake is about to store.
    """

    account: str
    rows: deque[Row] | None
    attempt: Attempt | None = None
    task: asyncio.Task[None] | None = None
    more: bool = False

    def add(self, row: Row | None) -> None:
        """Note what was added to the lane; None is a row that may stand anywhere in it."""
        if self.rows is None or row is None or self.more or len(self.rows) >= AHEAD_MAX:
            self.more = True
        else:
            self.rows.append(row)

    def doubt(self) -> None:
        """Believe only the ledger from now on: the row at hand may still be the first."""
        self.rows, self.more = None, True


@dataclass(eq=False, slots=True)
class _Partition(Tenure):
    """An owned partition and its busy lanes.

    `loaded_at` says when its lanes of before were looked at; `waiting` are the accounts with lanes
    that found no room and are only in the ledger.
    """

    busy: dict[Lane, _Busy] = field(default_factory=dict)
    loaded_at: float | None = None
    waiting: set[str] = field(default_factory=set)


class Lanes(Assignments):
    """Follows the assignments of the consumer group and keeps every lane of ours going.

    A rebalance closes all partitions at once. Those that stay are opened again when the ledger
    confirms their epoch, new ones when their epoch is raised. Who is still asking for partitions
    when the next rebalance gives them away may be answered after their new owner: it releases them
    then, and the other, whose claims are refused, regains them.
    """

    def __init__(
        self, ledger: Ledger, results: Results, worker: Worker, clock: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._results = results
        self._worker = worker
        self._clock = clock
        self._owned: dict[int, _Partition] = {}
        self._wanted: frozenset[int] | None = None
        self._asked: set[int] = set()
        """What this instance owns as far as the ledger may know, or did until it is released."""
        self._assignment = 0
        self._taken_over = 0
        """The number of the assignment that was taken over last, whole."""
        self._doubted = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._busy: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    @property
    def partitions(self) -> list[int]:
        """The partitions that are owned and open."""
        return [p.partition for p in self._owned.values() if p.open.is_set()]

    def revoked(self) -> None:
        """Stop handing out work: a rebalance has begun."""
        self._wanted = None
        for partition in self._owned.values():
            partition.open.clear()

    def assigned(self, partitions: frozenset[int]) -> None:
        """Go on with exactly these partitions, once the ledger agrees."""
        self._wanted = partitions
        self._assignment += 1
        self._changed.set()

    async def run(self) -> None:
        """Take partitions over as they are assigned, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._doubted = False
            wanted = self._wanted
            if wanted is None:
                continue
            try:
                await self._take_over(wanted)
            except Exception as error:
                if dependency_of(error) is None:
                    raise
                self._changed.set()
                await asyncio.sleep(RETRY_S)

    async def refill(self) -> None:
        """Follow lanes that found no room before whenever there is some, for ever."""
        while True:
            await self._room.wait()
            self._room.clear()
            for partition in list(self._owned.values()):
                for account in [a for a in partition.waiting if self._busy[a] < BUSY_MAX // 2]:
                    try:
                        await self._touch_all(partition, account)
                    except Exception as error:
                        if dependency_of(error) is None:
                            raise
                        self._room.set()
                        await asyncio.sleep(RETRY_S)

    def touch(self, lane: Lane, account: str, row: Row | None = None) -> None:
        """Say that a lane has work; `row` is its last if it was added just now."""
        partition = self._owned.get(lane.partition)
        if partition is None or self._draining:
            return
        busy = partition.busy.get(lane)
        if busy is not None:
            busy.add(row)
            return
        if self._busy[account] >= BUSY_MAX:
            partition.waiting.add(account)
            return
        rows = deque([row]) if row is not None and self._knows_idle(partition) else None
        self._begin(partition, lane, _Busy(account, rows))

    async def admit(self, row: Row) -> Attempt | None:
        """Begin with a row that is about to be stored, which it waits for, and for its claim.

        None if something is before it or it has to wait: its lane is to be touched afterwards.
        """
        lane, partition = row.lane, self._owned.get(row.partition)
        if partition is None or self._draining or lane in partition.busy:
            return None
        if self._busy[row.account] >= BUSY_MAX or not self._knows_idle(partition):
            return None
        attempt = await self._worker.admit(row, partition)
        if attempt is not None:
            task = self._begin(partition, lane, _Busy(row.account, deque(), attempt))
            self._worker.attempting.add(task)
        return attempt

    async def drain(self) -> None:
        """Hand out no more work and return when every attempt at hand has its result stored."""
        self._draining = True
        self._cancel(self._tasks)
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._results.flush()

    def _begin(self, partition: _Partition, lane: Lane, busy: _Busy) -> asyncio.Task[None]:
        partition.busy[lane] = busy
        task = asyncio.create_task(self._follow(partition, lane, busy), name="lane")
        busy.task = task
        self._busy[busy.account] += 1
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._left(partition, lane, task))
        return task

    async def _take_over(self, wanted: frozenset[int]) -> None:
        for number in self._owned.keys() - wanted:
            self._end(number)
        self._asked |= wanted
        assignment = self._assignment
        regain = self._taken_over == assignment
        held = {number: partition.epoch for number, partition in self._owned.items()}
        epochs = await self._ledger.own(sorted(wanted), held, regain=regain)
        if regain and epochs == held:
            return
        self._taken_over = 0
        for number, epoch in epochs.items():
            if held.get(number) != epoch:
                self._end(number)
                self._owned[number] = _Partition(number, epoch)
        if self._wanted == wanted:
            for partition in self._owned.values():
                partition.open.set()
        if lost := self._asked - wanted:
            await self._ledger.release(sorted(lost))
            self._asked -= lost
        fresh = [p for p in self._owned.values() if p.loaded_at is None]
        await asyncio.gather(*(self._load(partition) for partition in fresh))
        self._taken_over = assignment
        _log.info("partitions_owned", epochs={str(number): e for number, e in epochs.items()})

    def _doubt(self) -> None:
        """See soon whether a partition of which a claim was refused has been released."""
        if not self._doubted:
            self._doubted = True
            asyncio.get_running_loop().call_later(REGAIN_S, self._changed.set)

    async def _load(self, partition: _Partition) -> None:
        await self._touch_all(partition)
        await self._results.resume(partition.partition)
        partition.loaded_at = self._clock()

    async def _touch_all(self, partition: _Partition, account: str | None = None) -> None:
        # One more than there can be room for: that one says that others wait.
        lanes = await self._ledger.lanes(partition.partition, BUSY_MAX + 1, account)
        # Only now, and at once: till every lane is followed a row that comes may not be its head.
        if account is not None:
            partition.waiting.discard(account)
        for lane, its_account in lanes:
            self.touch(lane, its_account)

    def _knows_idle(self, partition: _Partition) -> bool:
        """Tell whether a lane without a task has no row and no claim that can still be written."""
        return (
            partition.loaded_at is not None
            and self._clock() >= partition.loaded_at + CLAIM_BOUND_S
            and not partition.waiting
        )

    def _end(self, number: int) -> None:
        partition = self._owned.pop(number, None)
        if partition is not None:
            partition.ended = True
            partition.open.set()
            self._cancel(busy.task for busy in partition.busy.values() if busy.task is not None)

    def _cancel(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        """End tasks that have no attempt at hand; the others end when its result is stored."""
        for task in tasks:
            if task not in self._worker.attempting:
                task.cancel()

    def _left(self, partition: _Partition, lane: Lane, task: asyncio.Task[None]) -> None:
        """Make room for others, and go on with a lane to which rows were added just now."""
        self._tasks.discard(task)
        busy = partition.busy.pop(lane)
        self._busy[busy.account] -= 1
        if (busy.rows or busy.more) and not partition.ended:
            self.touch(lane, busy.account)
        if any(each.waiting for each in self._owned.values()):
            self._room.set()

    async def _follow(self, partition: _Partition, lane: Lane, busy: _Busy) -> None:
        """Bring the rows of a lane to their end, the first first, until there is none."""
        while busy.attempt is not None or not (partition.ended or self._draining):
            try:
                if await self._step(partition, lane, busy):
                    return
            except Exception as error:  # noqa: BLE001 - a lane goes on, whatever one row did
                busy.doubt()
                if dependency_of(error) is None:
                    _log.error("lane_failed", exc_info=error)
                await asyncio.sleep(RETRY_S)

    async def _step(self, partition: _Partition, lane: Lane, busy: _Busy) -> bool:
        """Work on the first row of a lane; True when there is none behind it."""
        attempt, busy.attempt = busy.attempt, None
        if attempt is not None:
            return await self._move_on(busy, await self._worker.carry_out(attempt), is_known=True)
        row = busy.rows.popleft() if busy.rows else None
        is_known = row is not None
        if row is None:
            busy.rows, busy.more = None, False
            row = await self._ledger.head(lane)
        if row is None:
            return not busy.more
        return await self._move_on(busy, await self._worker.work(row, partition), is_known=is_known)

    async def _move_on(self, busy: _Busy, step: Step, *, is_known: bool) -> bool:
        """Leave the first row behind; True when it is known that there is none after it."""
        if step.refused:
            self._doubt()
        if step.hold_s > 0 and not self._draining:
            await asyncio.sleep(step.hold_s)
        if not is_known:
            return False
        if not step.settled:
            busy.doubt()
        return not busy.rows and not busy.more
