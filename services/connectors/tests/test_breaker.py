"""The circuit breaker: when it opens, how it looks again, when it closes."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from services.connectors.breaker import FAILURES_TO_OPEN, OPEN_FIRST_S, OPEN_MAX_S, Breaker
from services.connectors.tests.doubles import Clock


def opened(clock: Clock) -> Breaker:
    """Return a breaker that has just opened."""
    breaker = Breaker(clock)
    for recipient in range(FAILURES_TO_OPEN):
        breaker.failed(recipient, reached=True)
    assert breaker.is_open
    return breaker


@given(st.lists(st.booleans(), max_size=40))
def test_one_recipients_failures_do_not_open_it(answers: list[bool]) -> None:
    """However often the same recipient's deliveries fail, others are not held back."""
    breaker = Breaker(Clock())
    for succeeds in answers:
        if succeeds:
            breaker.succeeded()
        else:
            breaker.failed("same", reached=True)
        assert not breaker.is_open


def test_failures_of_several_open_it() -> None:
    """Failures in a row that more than one recipient met are the provider's."""
    breaker = Breaker(Clock())
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed("one", reached=True)
    assert not breaker.is_open
    breaker.failed("other", reached=True)
    assert breaker.is_open


def test_who_is_not_reached_speaks_for_everybody() -> None:
    """A provider that is not there at all is away for all, whoever found out."""
    breaker = Breaker(Clock())
    for _ in range(FAILURES_TO_OPEN):
        assert not breaker.is_open
        breaker.failed("same", reached=False)
    assert breaker.is_open


def test_a_success_between_failures_keeps_it_closed() -> None:
    """Only failures in a row count."""
    breaker = Breaker(Clock())
    for recipient in range(20):
        breaker.failed(recipient, reached=False)
        if recipient % 2:
            breaker.succeeded()
    assert not breaker.is_open


async def probing(breaker: Breaker, done: asyncio.Event) -> None:
    """Make an attempt that lasts until told."""
    await breaker.admit()
    try:
        await done.wait()
    finally:
        breaker.left()


async def test_half_open_lets_one_through() -> None:
    """When its time has come one attempt is made; the others follow one at a time."""
    clock, done = Clock(), asyncio.Event()
    breaker = opened(clock)
    clock.now += OPEN_FIRST_S
    tasks = [asyncio.create_task(probing(breaker, done)) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert breaker._probe in tasks
    seen = {breaker._probe}
    # Attempts that were admitted before it opened end in whatever way: that lets nobody through.
    breaker.left()
    breaker.failed("old", reached=True)
    await asyncio.sleep(0)
    assert breaker._probe in seen
    assert clock.now >= (breaker._reopens_at or 0)
    done.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)
    assert breaker._probe is None


async def test_a_probe_that_fails_doubles_the_wait() -> None:
    """Looking again becomes rarer up to a bound, and one success ends it."""
    clock = Clock()
    breaker = opened(clock)
    wait_s = OPEN_FIRST_S
    for _ in range(10):
        clock.now += wait_s
        await breaker.admit()
        breaker.failed("any", reached=True)
        breaker.left()
        wait_s = min(OPEN_MAX_S, 2 * wait_s)
        assert breaker._reopens_at == clock.now + wait_s
    clock.now += wait_s
    await breaker.admit()
    breaker.succeeded()
    breaker.left()
    assert not breaker.is_open
    async with asyncio.timeout(1):
        await breaker.admit()


async def test_who_waits_goes_on_when_it_closes() -> None:
    """A success of an older attempt lets the waiting through at once."""
    breaker = opened(Clock())
    waiting = asyncio.create_task(breaker.admit())
    await asyncio.sleep(0)
    assert not waiting.done()
    breaker.succeeded()
    async with asyncio.timeout(1):
        await waiting
