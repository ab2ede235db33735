"""Lanes: order, bounds, takeovers and draining, with the ledger in memory."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.connectors import lanes as module
from services.connectors.ledger import CLAIM_BOUND_S
from services.connectors.rows import Row
from services.connectors.tests.lane_site import Site, lane
from services.connectors.worker import Step, Tenure
from services.runtime.unavailable import Unavailable


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """Lanes that run, with short pauses and little room."""
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    monkeypatch.setattr(module, "BUSY_MAX", 10)
    site = Site()
    tasks = [asyncio.create_task(work) for work in (site.lanes.run(), site.lanes.refill())]
    yield site
    for task in [*tasks, *site.lanes._tasks]:
        task.cancel()
    await asyncio.gather(*tasks, *site.lanes._tasks, return_exceptions=True)


async def test_a_lane_keeps_its_order(site: Site) -> None:
    """What was there and what comes meanwhile goes out one by one, the first first."""
    lanes = [lane() for _ in range(5)]
    expected = {each: [site.book.add(each) for _ in range(3)] for each in lanes}
    site.free("main")
    await site.own(3)
    for _ in range(20):
        for each in lanes:
            expected[each].append(site.deliver(each))
        await asyncio.sleep(0)
    await site.until(lambda: len(site.hands.done) == 5 * 23)
    for each in lanes:
        assert [row for row in site.hands.done if row.lane == each] == expected[each]


async def test_an_idle_lane_begins_with_what_it_is_given(site: Site) -> None:
    """Once the partition is known for long enough the ledger need not be asked."""
    await site.own(3)
    site.free("main")
    site.deliver(lane())
    await site.until(lambda: len(site.hands.done) == 1 and not site.lanes._tasks)
    assert (heads := site.book.heads) > 0
    site.clock.now += CLAIM_BOUND_S
    site.deliver(lane())
    await site.until(lambda: len(site.hands.done) == 2 and not site.lanes._tasks)
    assert site.book.heads == heads


@pytest.mark.parametrize("won", [True, False])
async def test_an_idle_lane_begins_before_its_row_is_stored(site: Site, won: bool) -> None:  # noqa: FBT001
    """What comes behind stays behind; without its claim the ledger is asked."""
    await site.own(3)
    site.clock.now += CLAIM_BOUND_S
    site.hands.admits = True
    here = lane()
    first = await site.take_in(here, won=won)
    assert first is not None
    assert await site.take_in(here) is None
    heads = site.book.heads
    site.free("main")
    await site.until(lambda: not site.lanes._tasks)
    assert [row.lane for row in site.hands.done] == [here] * 2
    assert site.hands.done[0] is first
    assert not site.hands.inverted
    assert (site.book.heads > heads) == (not won)
    assert not +site.lanes._busy


async def test_no_lane_begins_early_that_may_have_older_rows(site: Site) -> None:
    """Not in a partition just taken over, nor in a closed one, nor beyond the room there is."""
    site.hands.admits = True
    await site.own(3)
    assert await site.take_in(lane()) is None
    site.clock.now += CLAIM_BOUND_S
    assert await site.take_in(lane(4)) is None
    for _ in range(module.BUSY_MAX - 1):
        assert await site.take_in(lane()) is not None
    assert await site.take_in(lane()) is None
    site.lanes.revoked()
    site.free("main")
    await site.until(lambda: len(site.hands.done) == module.BUSY_MAX)
    assert await site.take_in(lane()) is None


@pytest.mark.parametrize("end", ["lost at once", "lost", "drained"])
async def test_a_row_on_its_way_into_the_ledger_is_carried_out(site: Site, end: str) -> None:
    """Its claim may stand already, so neither the end of its partition nor of us may stop it."""
    await site.own(3)
    site.clock.now += CLAIM_BOUND_S
    site.hands.admits = True
    attempt = await site.lanes.admit(row := site.book.add(lane()))
    assert attempt is not None
    if end == "lost at once":
        site.lanes._end(3)
    ending = asyncio.create_task(site.lanes.drain() if end == "drained" else site.own(4))
    for _ in range(20):
        await asyncio.sleep(0)
    assert ending.done() == (end != "drained")
    site.free("main")
    attempt.claimed.set_result(True)
    await site.until(lambda: not site.lanes._tasks)
    await ending
    assert site.hands.done == [row]


@pytest.mark.parametrize("beyond", [0, 4])
async def test_a_busy_lane_remembers_what_comes_next(site: Site, beyond: int) -> None:
    """A few rows behind the one at hand are not read again, those beyond are; all in order."""
    await site.own(3)
    site.clock.now += CLAIM_BOUND_S + 1
    busy = lane()
    rows = [site.deliver(busy) for _ in range(module.AHEAD_MAX + beyond)]
    site.free("main")
    await site.until(lambda: not site.lanes._tasks)
    assert site.hands.done == rows
    assert (site.book.heads > 0) == (beyond > 0)


async def test_a_row_that_is_not_settled_is_not_overtaken(site: Site) -> None:
    """What is remembered behind a row that has to wait does not go before it."""
    await site.own(3)
    site.clock.now += CLAIM_BOUND_S + 1
    site.hands.step, busy = Step(settled=False), lane()
    rows = [site.deliver(busy) for _ in range(3)]
    site.free("main")
    await site.until(lambda: site.book.heads > 0)
    site.hands.step = Step(settled=True)
    await site.until(lambda: not site.lanes._tasks)
    assert (site.hands.done, site.hands.inverted) == (rows, [])


async def test_so_many_lanes_of_an_account_are_followed(site: Site) -> None:
    """A backlog of any size holds a bounded number of tasks, and others are not starved."""
    many = [lane(partition) for partition in (3, 4) for _ in range(60)]
    for each in many:
        site.book.add(each)
    await site.own(3, 4)
    assert len(site.lanes._tasks) == module.BUSY_MAX
    site.free("second")
    for _ in range(20):
        site.deliver(lane(), "second")
        await asyncio.sleep(0)
    await site.until(lambda: len(site.hands.done) == 20)
    site.free("main")
    await site.until(lambda: len(site.hands.done) == 140)
    assert max(site.hands.most.values()) <= module.BUSY_MAX
    await site.until(lambda: not site.lanes._tasks)
    assert not +site.lanes._busy


async def test_room_in_one_partition_is_for_another(site: Site) -> None:
    """Lanes of a partition that has none at work are not forgotten."""
    for _ in range(module.BUSY_MAX):
        site.book.add(lane(3))
    await site.own(3)
    site.book.add(lane(4))
    await site.own(3, 4)
    site.free("main")
    await site.until(lambda: len(site.hands.done) == module.BUSY_MAX + 1)


async def test_a_lane_that_waits_for_room_keeps_its_order(site: Site) -> None:
    """A row that comes while older ones of its lane are found again is not taken for the head."""
    site.clock.now += 1
    await site.own(3)
    site.clock.now += CLAIM_BOUND_S
    for _ in range(module.BUSY_MAX):
        site.deliver(lane())
    late = lane()
    site.deliver(late)
    site.book.reading.clear()
    asked = site.book.asked
    site.free("main")
    await site.until(lambda: site.book.asked > asked and not site.lanes._tasks)
    site.deliver(late)
    site.deliver(late, "second")
    site.free("second")
    site.book.reading.set()
    await site.until(lambda: len(site.hands.done) == module.BUSY_MAX + 3)
    assert not site.hands.inverted


async def test_a_rebalance_stops_new_work_and_goes_on(site: Site) -> None:
    """Between revocation and assignment nothing is worked on; kept partitions go on then."""
    await site.own(3)
    site.free("main")
    site.lanes.revoked()
    assert site.lanes.partitions == []
    site.deliver(lane())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not site.hands.done
    await site.own(3)
    await site.until(lambda: len(site.hands.done) == 1)
    assert site.book.epochs[3] == 1


async def test_a_lost_partition_ends_its_lanes(site: Site) -> None:
    """Its waiting tasks go at once and leave their room; coming back it is loaded anew."""
    rows = [site.book.add(lane(3)) for _ in range(module.BUSY_MAX)]
    await site.own(3)
    await site.until(lambda: site.hands.at_hand["main"] == module.BUSY_MAX)
    await site.own(4)
    await site.until(lambda: not site.lanes._tasks)
    assert not +site.lanes._busy
    site.book.epochs[3] += 1
    site.free("main")
    await site.own(3, 4)
    await site.until(lambda: len(site.hands.done) == len(rows))
    assert site.book.epochs[3] == 3


async def test_an_attempt_at_hand_outlives_its_partition(site: Site) -> None:
    """It ends by its result, never in the middle."""
    site.hands.uninterruptible = True
    site.book.add(lane(3))
    await site.own(3)
    await site.until(lambda: site.hands.at_hand["main"] == 1)
    await site.own(4)
    (task,) = site.lanes._tasks
    assert not task.cancelling()
    site.free("main")
    await site.until(lambda: not site.lanes._tasks)
    assert len(site.hands.done) == 1


async def test_a_takeover_is_tried_until_the_ledger_is_there(site: Site) -> None:
    """A dependency that is away delays a partition and loses nothing."""
    site.book.add(lane())
    site.free("main")
    site.book.errors = [Unavailable("postgres"), OSError("reset")]
    await site.own(3)
    await site.until(lambda: len(site.hands.done) == 1)


async def test_what_the_next_rebalance_gives_away_is_released(site: Site) -> None:
    """However the ledger was away: who asked late may have taken it from its new owner."""
    await site.own(3, 4)
    site.book.errors = [Unavailable("postgres")]
    await site.own(3)
    await site.until(lambda: site.book.unowned == {4})
    await site.own(3)
    assert site.book.unowned == {4}


async def test_a_released_partition_is_regained(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claims are refused until it is: from who may be right nothing is taken."""
    monkeypatch.setattr(module, "REGAIN_S", 0.001)
    site.free("main")
    await site.own(3, 4)
    site.hands.step = Step(settled=False, refused=True)
    site.book.epochs[3] += 1
    site.deliver(lane(3))
    await site.until(lambda: site.book.regained > 1)
    assert site.book.epochs == {3: 2, 4: 1}
    await site.book.release([3])
    await site.until(lambda: site.book.epochs[3] > 2)
    site.hands.step = Step(settled=True)
    await site.until(lambda: len(site.hands.done) == 1)
    assert site.book.epochs[4] == 1


async def test_what_was_not_told_is_told_however_often_loading_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition counts as loaded only when its reports are found too."""
    resumed: list[int] = []

    async def resume(partition: int) -> None:
        resumed.append(partition)
        if len(resumed) == 1:
            raise Unavailable("postgres")

    monkeypatch.setattr(site.results, "resume", resume)
    await site.own(3)
    assert resumed == [3, 3]


async def test_draining_ends_what_waits_and_awaits_what_is_at_hand(site: Site) -> None:
    """Results at hand are stored and told; nothing new begins, nothing is held."""
    site.hands.uninterruptible = True
    rows = [site.book.add(lane()) for _ in range(3)]
    await site.own(3)
    await site.until(lambda: site.hands.at_hand["main"] == 3)
    site.hands.uninterruptible = False
    site.deliver(lane())
    await site.until(lambda: site.hands.at_hand["main"] == 4)
    site.hands.step = Step(settled=True, hold_s=3600)
    draining = asyncio.create_task(site.lanes.drain())
    await site.until(lambda: site.hands.at_hand["main"] == 3)
    site.deliver(rows[0].lane)
    assert not draining.done()
    site.free("main")
    async with asyncio.timeout(5):
        await draining
    assert len(site.hands.done) == 3
    assert site.results.flushed == 1


async def test_a_lane_cancelled_before_it_began_leaves_no_trace(site: Site) -> None:
    """A touch and the loss of the partition in the same moment."""
    await site.own(3)
    site.deliver(lane())
    site.lanes._end(3)
    await site.until(lambda: not site.lanes._tasks)
    assert not +site.lanes._busy


async def test_a_row_added_as_its_lane_ends_is_not_forgotten(site: Site) -> None:
    """The lane has decided that it is done, and its task is not yet gone."""
    await site.own(3)
    site.clock.now += CLAIM_BOUND_S
    here = lane()
    site.deliver(here)
    (task,) = site.lanes._tasks
    site.free("main")
    # Among the callbacks of a finished task this one runs before the lanes' own.
    own, context = task._callbacks[0]
    task.remove_done_callback(own)
    task.add_done_callback(lambda _: site.deliver(here))
    task.add_done_callback(own, context=context)
    await site.until(lambda: len(site.hands.done) == 2)


async def test_a_row_that_fails_the_worker_does_not_stop_its_lane(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged and tried again."""
    work, failures = site.hands.work, [ValueError("mistake"), Unavailable("postgres")]

    async def fail(row: Row, tenure: Tenure) -> Step:
        if failures:
            raise failures.pop()
        return await work(row, tenure)

    monkeypatch.setattr(site.hands, "work", fail)
    site.free("main")
    site.book.add(lane())
    await site.own(3)
    await site.until(lambda: len(site.hands.done) == 1)
