"""Concurrent writes share their batches."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest

from services.runtime.batches import Batches


class Writer:
    """Doubles numbers once it is let go, and notes what came together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()

    async def write(self, items: Sequence[int]) -> list[int]:
        """Double the items of a batch."""
        self.batches.append(list(items))
        await self.go.wait()
        if 13 in items:
            raise ValueError(items)
        return [item * 2 for item in items]


async def test_who_comes_during_a_write_shares_the_next() -> None:
    """The first goes alone, those behind it together, each with a result of its own."""
    writer = Writer()
    batches = Batches(writer.write, 3)
    adding = [asyncio.create_task(batches.add(number)) for number in range(6)]
    await asyncio.sleep(0)
    writer.go.set()
    assert await asyncio.gather(*adding) == [0, 2, 4, 6, 8, 10]
    assert [item for batch in writer.batches for item in batch] == list(range(6))
    assert max(map(len, writer.batches)) == 3


async def test_a_failed_write_fails_those_in_it_and_no_others() -> None:
    """The next batch starts afresh."""
    writer = Writer()
    writer.go.set()
    batches = Batches(writer.write, 10)
    with pytest.raises(ValueError, match="13"):
        await batches.add(13)
    assert await batches.add(2) == 4


async def test_who_gives_up_holds_nobody_up() -> None:
    """An item whose caller is gone is written all the same, and so are those behind it."""
    writer = Writer()
    batches = Batches(writer.write, 1)
    first, gone, last = (asyncio.create_task(batches.add(number)) for number in (1, 2, 3))
    await asyncio.sleep(0)
    gone.cancel()
    writer.go.set()
    assert [await first, await last] == [2, 6]
    assert writer.batches == [[1], [2], [3]]


async def test_the_first_waits_for_company() -> None:
    """Who comes a little later than the first after a rest shares its write."""
    writer = Writer()
    writer.go.set()
    batches = Batches(writer.write, 10, gather_s=0.05)
    first = asyncio.create_task(batches.add(1))
    await asyncio.sleep(0.001)
    assert [await batches.add(2), await first] == [4, 2]
    assert writer.batches == [[1, 2]]


async def test_writes_are_as_far_apart_as_they_are_slow() -> None:
    """The next waits for longer than the last took, the longer for more items, up to the pace."""
    starts: list[float] = []
    clock = asyncio.get_running_loop().time

    async def write(items: Sequence[int]) -> list[int]:
        starts.append(clock())
        await asyncio.sleep(0.02)
        return list(items)

    batches = Batches(write, 10, 0.05)
    for count in (1, 8, 1):
        await asyncio.gather(*map(batches.add, range(count)))
    after_one, after_eight = (later - earlier for earlier, later in pairwise(starts))
    assert after_one >= 0.025
    assert after_eight >= 0.05


async def test_fast_writes_are_a_pace_apart() -> None:
    """However fast a write is, those who come within the least pace share the next one."""
    writer = Writer()
    writer.go.set()
    batches = Batches(writer.write, 10, 0.05, pace_min_s=0.05)
    assert await batches.add(1) == 2
    second = asyncio.create_task(batches.add(2))
    await asyncio.sleep(0.001)
    assert [await batches.add(3), await second] == [6, 4]
    assert writer.batches == [[1], [2, 3]]
