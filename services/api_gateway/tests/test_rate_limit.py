"""Rate limits: never more than the limit, through leases, outages and two gateways."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from services.api_gateway.keys import Holder
from services.api_gateway.rate_limit import (
    LEASE_TIMEOUT_S,
    Bucket,
    Grant,
    Limit,
    RateLimits,
    Verdict,
    limited,
    shared_bucket,
)
from services.api_gateway.routes import HOLDER
from services.runtime.app import App
from services.runtime.health import Health
from services.runtime.http.server import create
from services.runtime.redis import Redis
from services.runtime.unavailable import Unavailable

LIMITS = st.builds(Limit, st.floats(0.5, 100), st.integers(1, 40))
PAUSES = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 60)), max_size=8)
LOCAL_SHARE = 0.25
T = TypeVar("T")


class Shared:
    """A bucket for each key as Redis keeps it, which can be away."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.buckets: dict[str, Bucket] = {}
        self.now = 1000.0
        self.away = False
        self.asked = 0
        self.go = asyncio.Event()
        self.go.set()

    def clock(self) -> float:
        """Return the time, which stands until it is moved."""
        return self.now

    async def take(self, key: str, wanted: int) -> Grant:
        """Answer as the script in Redis does."""
        self.asked += 1
        await asyncio.sleep(0)
        await self.go.wait()
        if self.away:
            raise Unavailable("redis")
        bucket = self.buckets.setdefault(key, Bucket(self.limit, self.now))
        return bucket.take(wanted, self.now)

    def gateway(self) -> RateLimits:
        """Return what one gateway decides with."""
        return RateLimits(self.take, self.limit, LOCAL_SHARE, self.clock)


def run(work: Awaitable[T]) -> T:
    """Run something to its end on a loop of its own."""

    async def whole() -> T:
        return await work

    return asyncio.run(whole())


async def passed(gateway: RateLimits, count: int, key: str = "k") -> int:
    """Return how many of several requests at once may pass."""
    verdicts = await asyncio.gather(*(gateway.check(key) for _ in range(count)))
    return sum(verdict.allowed for verdict in verdicts)


@given(LIMITS, PAUSES)
def test_a_bucket_never_gives_more_than_its_limit(
    limit: Limit, pauses: list[tuple[float, int]]
) -> None:
    """Between any two moments it gives at most the burst and what is refilled meanwhile."""
    bucket, now = Bucket(limit, 0.0), 0.0
    given_at: list[tuple[float, int]] = []
    for pause, wanted in pauses:
        now += pause
        given_at.append((now, bucket.take(wanted, now).tokens))
    for index, (start, _) in enumerate(given_at):
        total = 0
        for end, tokens in given_at[index:]:
            total += tokens
            assert total <= limit.burst + limit.rate_per_s * (end - start) + 1e-6


@given(LIMITS)
def test_a_bucket_gives_what_is_due(limit: Limit) -> None:
    """After a pause as long as the whole burst takes, the whole burst is there again."""
    bucket = Bucket(limit, 0.0)
    assert bucket.take(10_000, 0.0).tokens == limit.burst
    assert bucket.take(1, 0.0).tokens == 0
    full = limit.burst / limit.rate_per_s
    assert bucket.take(10_000, full * (1 + 1e-9)).tokens == limit.burst


@settings(max_examples=50)
@given(LIMITS, PAUSES)
def test_two_gateways_together_keep_one_limit(
    limit: Limit, pauses: list[tuple[float, int]]
) -> None:
    """Through leases two gateways let no more pass than one bucket holds."""

    async def work() -> None:
        shared = Shared(limit)
        gateways = (shared.gateway(), shared.gateway())
        start, total = shared.now, 0
        for pause, count in pauses:
            shared.now += pause
            for gateway in gateways:
                total += await passed(gateway, count)
            assert total <= limit.burst + limit.rate_per_s * (shared.now - start) + 1e-6

    run(work())


@settings(max_examples=50)
@given(LIMITS, PAUSES)
def test_without_redis_the_limit_is_stricter(limit: Limit, pauses: list[tuple[float, int]]) -> None:
    """A gateway that is alone allows its share of the limit: less than that, never all."""

    async def work() -> None:
        shared = Shared(limit)
        shared.away = True
        gateway = shared.gateway()
        start, total = shared.now, 0
        for pause, count in pauses:
            shared.now += pause
            total += await passed(gateway, count)
            due = max(1, limit.burst * LOCAL_SHARE)
            due += limit.rate_per_s * LOCAL_SHARE * (shared.now - start)
            assert total <= due + 1e-6

    run(work())


async def test_what_is_due_passes() -> None:
    """At its steady rate a key is never refused, and it does not ask for each request."""
    shared = Shared(Limit(1000.0, 2000))
    gateway = shared.gateway()
    assert await passed(gateway, 3000) == 2000
    asked = shared.asked
    for _ in range(50):
        shared.now += 0.1
        assert await passed(gateway, 100) == 100
    assert shared.asked - asked <= 60


async def test_the_next_lease_is_taken_before_anybody_has_to_wait() -> None:
    """While it is on its way the rest of the last one is spent; both together are not lost."""
    shared = Shared(Limit(1000.0, 2000))
    gateway = shared.gateway()
    assert await passed(gateway, 60) == 60
    shared.go.clear()
    async with asyncio.timeout(1):
        assert await passed(gateway, 40) == 40
    assert shared.asked == 2
    shared.go.set()
    await asyncio.sleep(0.01)
    assert await passed(gateway, 2000) == 1900


async def test_an_empty_bucket_is_not_asked_again() -> None:
    """Who sends too much is refused from memory until a token can be there."""
    shared = Shared(Limit(10.0, 2))
    gateway = shared.gateway()
    assert await passed(gateway, 100) == 2
    asked = shared.asked
    assert await passed(gateway, 100) == 0
    assert shared.asked == asked
    shared.now += 0.1
    assert await passed(gateway, 100) == 1


async def test_an_unspent_lease_is_lost() -> None:
    """Tokens that were taken long ago do not add to those that were refilled since."""
    shared = Shared(Limit(100.0, 10))
    gateway = shared.gateway()
    await gateway.check("k")
    shared.now += LEASE_TIMEOUT_S
    assert await passed(gateway, 100) == 10


async def test_keys_do_not_share_their_limits() -> None:
    """What one key sends takes nothing from another."""
    shared = Shared(Limit(1.0, 5))
    gateway = shared.gateway()
    assert await passed(gateway, 50, "one") == 5
    assert await passed(gateway, 50, "two") == 5


async def test_the_shared_limit_counts_again_when_redis_is_back() -> None:
    """An outage changes the limit for as long as it lasts."""
    shared = Shared(Limit(100.0, 100))
    gateway = shared.gateway()
    shared.away = True
    assert await passed(gateway, 100) == 25
    shared.away = False
    assert await passed(gateway, 200) == 100


@pytest.mark.parametrize(
    ("rate_per_s", "remaining", "headers", "retry_after_s"),
    [
        (2.0, 20.0, ("20", "20", "0"), 1),
        (2.0, 7.5, ("20", "7", "7"), 1),
        (2.0, 0.0, ("20", "0", "10"), 1),
        (0.2, 0.1, ("20", "0", "100"), 5),
    ],
)
def test_what_a_client_is_told(
    rate_per_s: float, remaining: float, headers: tuple[str, str, str], retry_after_s: int
) -> None:
    """Size, what is left, when it is full again; when to come again is never below a second."""
    verdict = Verdict(True, Limit(rate_per_s, 20), remaining)
    assert tuple(verdict.headers().values()) == headers
    assert verdict.retry_after_s == retry_after_s


@pytest.fixture
async def server() -> AsyncIterator[BaseTestServer]:
    """Serve something behind a limit of three requests."""
    limits = Shared(Limit(0.5, 3)).gateway()

    async def guard(request: web.Request) -> None:
        if request.path == "/closed":
            request[HOLDER] = Holder("k", ())

    async def hello(_request: web.Request) -> web.Response:
        return web.Response()

    check = limited(guard, limits)
    app = create("api-gateway", Health(), lambda: check)
    app.router.add_get("/closed", hello)
    app.router.add_get("/open", hello)
    async with TestServer(app) as made:
        yield made


async def test_too_many_requests_are_answered_with_a_problem(server: BaseTestServer) -> None:
    """429, when to come again and what the limit is; who has no key's limit is told nothing."""
    async with aiohttp.ClientSession() as session:
        for left in ("2", "1", "0"):
            async with session.get(server.make_url("/closed")) as answer:
                assert (answer.status, answer.headers["RateLimit-Remaining"]) == (200, left)
        async with session.get(server.make_url("/closed")) as answer:
            assert answer.status == 429
            assert answer.content_type == "application/problem+json"
            assert (await answer.json())["code"] == "rate_limited"
            assert answer.headers["Retry-After"] == "2"
            assert answer.headers["RateLimit-Limit"] == "3"
            assert answer.headers["RateLimit-Remaining"] == "0"
            assert answer.headers["RateLimit-Reset"] == "6"
        async with session.get(server.make_url("/open")) as answer:
            assert answer.status == 200
            assert "RateLimit-Limit" not in answer.headers


@pytest.fixture
async def redis(redis_address: str) -> AsyncIterator[Redis]:
    """Connect to the real Redis."""
    tasks: list[asyncio.Task[None]] = []
    parts = SimpleNamespace(
        config=SimpleNamespace(redis_address=redis_address),
        on_stop=lambda *_: None,
        spawn=lambda name, work: tasks.append(asyncio.create_task(work, name=name)),
    )
    made = Redis(cast("App[Any]", parts))
    async with asyncio.timeout(5):
        while not await reached(made):
            await asyncio.sleep(0.01)
    yield made
    await made._close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def reached(redis: Redis) -> bool:
    """Tell whether Redis answers."""
    try:
        return bool(await redis.evaluate("return 1", (), ()))
    except Unavailable:
        return False


@pytest.mark.connected
@pytest.mark.parametrize("limit", [Limit(200.0, 50), Limit(3.0, 7)])
async def test_the_script_keeps_the_limit(redis: Redis, limit: Limit) -> None:
    """In Redis, too, two gateways get the burst and what is refilled meanwhile, and no more."""
    take, clock = shared_bucket(redis, limit), asyncio.get_running_loop().time
    gateways = [RateLimits(take, limit, LOCAL_SHARE, clock) for _ in range(2)]
    key = str(uuid4())
    started, total = time.monotonic(), 0
    async with asyncio.timeout(10):
        while total < limit.burst + 3:
            total += sum(await asyncio.gather(*(passed(g, 30, key) for g in gateways)))
            assert total <= limit.burst + limit.rate_per_s * (time.monotonic() - started)
            await asyncio.sleep(0)


@pytest.mark.connected
async def test_the_script_answers_as_the_double_does(redis: Redis) -> None:
    """Right after each other, takes get the same from Redis as from a bucket here."""
    limit = Limit(0.001, 10)
    take, bucket, key = shared_bucket(redis, limit), Bucket(limit, 0.0), str(uuid4())
    for wanted in (1, 4, 3, 5, 1):
        real, double = await take(key, wanted), bucket.take(wanted, 0.0)
        assert real.tokens == double.tokens
        assert real.left == pytest.approx(double.left, abs=0.01)
