"""Joins concurrent writes into batches: one durable write serves all who came meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Hands items to a writer, many at a time; who comes while it writes waits for the next.

    Whoever is first in line writes for those behind, so there is no task to own. Writes begin at
    least `pace_s` apart: an item alone is written at once, a stream of them shares its writes.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        items_max: int,
        pace_s: float = 0.0,
    ) -> None:
        self._write = write
        self._items_max = items_max
        self._pace_s = pace_s
        self._next_at = 0.0
        self._turn = asyncio.Lock()
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []

    async def add(self, item: T) -> R:
        """Return the writer's result for an item once its batch is written."""
        outcome: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, outcome))
        async with self._turn:
            while not outcome.done():
                await self._flush()
        return outcome.result()

    async def _flush(self) -> None:
        clock = asyncio.get_running_loop().time
        if (early_s := self._next_at - clock()) > 0 and len(self._waiting) < self._items_max:
            await asyncio.sleep(early_s)
        self._next_at = clock() + self._pace_s
        batch = self._waiting[: self._items_max]
        del self._waiting[: self._items_max]
        try:
            results = await self._write([item for item, _ in batch])
        except BaseException as error:
            for _, outcome in batch:
                outcome.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, outcome), result in zip(batch, results, strict=True):
            outcome.set_result(result)
