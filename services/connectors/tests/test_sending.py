"""Leave to send: what holds back one account holds back only that one, and never lets go early."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from services.connectors.sending import Sending
from services.connectors.tests.doubles import LIMITS, Accounts, Connector, row
from services.contracts.channels import Limits
from services.contracts.topics import PARTITIONS


def sending(limits: Limits | None = None, sends_max: int = 2) -> Sending:
    """Return the leave to send of two accounts."""
    return Sending(
        cast("Any", Connector("main", "second", limits=limits or LIMITS)),
        cast("Any", Accounts("main", "second")),
        limited=limits is not None,
        sends_max=sends_max,
        clock=asyncio.get_running_loop().time,
    )


async def test_turns_are_bounded_for_each_account() -> None:
    """So many attempts run at once; another account's do not count."""
    leave, running, most = sending(), 0, 0
    release = asyncio.Event()

    async def attempt() -> None:
        nonlocal running, most
        async with leave.turn(row()):
            running += 1
            most = max(most, running)
            await release.wait()
            running -= 1

    tasks = [asyncio.create_task(attempt()) for _ in range(20)]
    async with asyncio.timeout(5):
        async with leave.turn(row(account="second")):
            pass
        while running < 2:
            await asyncio.sleep(0)
    release.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)
    assert most == 2


async def test_who_has_a_turn_in_an_open_circuit_waits() -> None:
    """What came before the circuit opened but did not begin yet begins after it closed."""
    leave = sending(sends_max=1)
    began = []

    async def attempt(number: int) -> None:
        async with leave.turn(row()) as breaker:
            began.append(number)
            if number == 0:
                breaker.trip()

    tasks = [asyncio.create_task(attempt(number)) for number in range(3)]
    await asyncio.wait([tasks[0]])
    assert began == [0]
    leave.breaker("main").succeeded()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)
    assert began == [0, 1, 2]


async def test_an_accounts_pace_is_kept_in_order() -> None:
    """Deliveries pass one behind the other, no faster than the share of the limit."""
    limits = Limits(
        account_per_s=200, account_burst=10, recipient_interval_s=1e-6, recipient_burst=1
    )
    leave = sending(limits, sends_max=64)
    leave.owned = lambda: range(PARTITIONS // 2)
    clock = asyncio.get_running_loop().time
    passed: list[tuple[int, float]] = []

    async def attempt(number: int) -> None:
        async with leave.turn(row(address=str(number))):
            passed.append((number, clock()))

    async with asyncio.timeout(10):
        await asyncio.gather(*(attempt(number) for number in range(30)))
    assert [number for number, _ in passed] == list(range(30))
    times = [at for _, at in passed]
    for first in range(30):
        for last in range(first, 30):
            assert last - first + 1 <= 5 + (times[last] - times[first]) * 100 + 0.5


async def test_one_recipients_pace_holds_back_nobody_else() -> None:
    """Who waits for a recipient has no turn."""
    limits = Limits(
        account_per_s=1e6, account_burst=100, recipient_interval_s=60, recipient_burst=1
    )
    leave = sending(limits, sends_max=1)
    async with leave.turn(row(address="slow")):
        pass
    waiting = [asyncio.create_task(_pass(leave, "slow")) for _ in range(5)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await _pass(leave, "other")
    for task in waiting:
        assert not task.done()
        task.cancel()
    await asyncio.wait(waiting)


async def _pass(leave: Sending, address: str) -> None:
    async with leave.turn(row(address=address)):
        pass


async def test_what_is_admitted_at_once_takes_a_turn() -> None:
    """As many as there are turns, without a wait; who is dismissed makes room."""
    leave = sending()
    assert [await leave.admit_now(row()) is not None for _ in range(3)] == [True, True, False]
    leave.dismiss(row())
    assert await leave.admit_now(row()) is leave.breaker("main")


async def hold_back(leave: Sending, why: str) -> Callable[[], None]:
    """Let something hold an account back; return what lets it go."""
    accounts = cast("Accounts", leave.accounts)
    if why == "refused":
        accounts.good["main"].clear()
        return accounts.good["main"].set
    if why == "circuit open":
        leave.breaker("main").trip()
        return leave.breaker("main").succeeded
    gate = leave._states["main"].gate
    await gate.acquire()
    return gate.release


@pytest.mark.parametrize("why", ["refused", "circuit open", "somebody waits"])
async def test_nothing_is_admitted_at_once_that_has_to_wait(why: str) -> None:
    """Neither is a turn taken by it."""
    leave = sending(sends_max=1)
    let_go = await hold_back(leave, why)
    assert await leave.admit_now(row()) is None
    assert await leave.admit_now(row(account="second")) is not None
    let_go()
    assert await leave.admit_now(row()) is not None


async def test_nothing_is_admitted_at_once_where_the_provider_has_a_say() -> None:
    """Under its limits, after it asked for quiet, and of an account that is gone."""
    assert await sending(LIMITS).admit_now(row()) is None
    leave = sending()
    leave.quiet("main", 60)
    assert await leave.admit_now(row()) is None
    assert await leave.admit_now(row(account="gone")) is None
