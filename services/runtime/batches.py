"""Joins concurrent calls into batches: one write, or one look-up, serves all who came meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

PACE_RATIO, PACE_ITEMS = 3.0, 4
"""Writes begin as far apart as the last one took, and so much again for every PACE_ITEMS in it, at
most PACE_RATIO times: the busier it is, the more items share the next one."""
T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Hands items to a writer, many at a time; who comes while it writes waits for the next.

    Writes begin a pace apart that goes by how long they take, `pace_min_s` at least and `pace_s`
    at most. The first item after a rest waits `gather_s` for company. A write is nobody's: who
    gives up waiting spoils it for none of the others.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        items_max: int,
        pace_s: float = 0.0,
        *,
        pace_min_s: float = 0.0,
        gather_s: float = 0.0,
    ) -> None:
        self._write = write
        self._items_max = items_max
        self._pace_s = pace_s
        self._pace_min_s = pace_min_s
        self._gather_s = gather_s
        self._next_at = 0.0
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def add(self, item: T) -> R:
        """Return the writer's result for an item once its batch is written."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, outcome))
        if self._writing is None:
            self._next_at = max(self._next_at, loop.time() + self._gather_s)
            self._writing = loop.create_task(self._write_all(loop.time), name="batches")
        return await outcome

    async def _write_all(self, clock: Callable[[], float]) -> None:
        try:
            while self._waiting:
                if (
                    len(self._waiting) < self._items_max
                    and (early_s := self._next_at - clock()) > 0
                ):
                    await asyncio.sleep(early_s)
                started = clock()
                items = await self._flush()
                ratio = min(PACE_RATIO, 1 + items / PACE_ITEMS)
                pace_s = max(self._pace_min_s, ratio * (clock() - started))
                self._next_at = started + min(self._pace_s, pace_s)
        finally:
            self._writing = None

    async def _flush(self) -> int:
        """Write what waits, as far as one write may hold it; return how many items that were."""
        batch = self._waiting[: self._items_max]
        del self._waiting[: self._items_max]
        try:
            results = await self._write([item for item, _ in batch])
            written = list(zip(batch, results, strict=True))
        except BaseException as error:
            for _, outcome in batch:
                if not outcome.done():
                    outcome.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return len(batch)
        for (_, outcome), result in written:
            if not outcome.done():
                outcome.set_result(result)
        return len(batch)
