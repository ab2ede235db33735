"""Rate limits: one token bucket for each API key, shared through Redis, spent by leases.

A gateway takes several tokens at a time and spends them without asking, and takes the next before
it has spent them, so that no request has to wait; what it does not spend within a second is lost.
While Redis is away each gateway limits alone, and stricter.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from services.api_gateway.routes import HOLDER
from services.contracts.problems import Problem
from services.runtime.http.server import ANSWER_HEADERS, Guard
from services.runtime.redis import Redis
from services.runtime.tasks import note_failure
from services.runtime.telemetry import metrics
from services.runtime.unavailable import Unavailable

KEYS_MAX = 10_000
LEASE_S = 0.1
"""A lease is as many tokens as are refilled in this time."""
LEASE_TIMEOUT_S = 1.0
_ROUNDING = 1e-9
_TAKE = """
local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = burst
if kept[1] then
  tokens = math.min(burst, kept[1] + math.max(0, now - kept[2]) * rate)
end
local granted = math.min(wanted, math.floor(tokens))
redis.call('HSET', KEYS[1], 'tokens', tokens - granted, 'at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return {granted, tostring(tokens - granted)}
"""


class Limit(NamedTuple):
    """How many requests may come: steadily, and at once after a pause."""

    rate_per_s: float
    burst: int


class Grant(NamedTuple):
    """Tokens that were taken from a bucket, and how many are left in it."""

    tokens: int
    left: float


class Verdict(NamedTuple):
    """What a request is told about its limit."""

    allowed: bool
    limit: Limit
    remaining: float

    @property
    def retry_after_s(self) -> int:
        """When there will be a token again, in whole seconds."""
        return max(1, math.ceil((1 - self.remaining) / self.limit.rate_per_s))

    def headers(self) -> dict[str, str]:
        """Return the bucket's size, what is left of it, and in how many seconds it is full."""
        full_s = (self.limit.burst - self.remaining) / self.limit.rate_per_s
        return {
            "RateLimit-Limit": str(self.limit.burst),
            "RateLimit-Remaining": str(math.floor(self.remaining)),
            "RateLimit-Reset": str(max(0, math.ceil(full_s))),
        }


class Bucket:
    """Tokens in this process that are refilled at a rate up to a burst."""

    def __init__(self, limit: Limit, now: float) -> None:
        self._limit = limit
        self._tokens = float(limit.burst)
        self._at = now

    def take(self, wanted: int, now: float) -> Grant:
        """Take up to as many tokens as wanted."""
        refilled = self._tokens + max(0.0, now - self._at) * self._limit.rate_per_s
        self._tokens = min(self._limit.burst, refilled)
        self._at = max(self._at, now)
        granted = min(wanted, math.floor(self._tokens + _ROUNDING))
        self._tokens = max(0.0, self._tokens - granted)
        return Grant(granted, self._tokens)


Take = Callable[[str, int], Awaitable[Grant]]
"""Takes tokens from the bucket of a key that all gateways share; raises Unavailable."""


def shared_bucket(redis: Redis, limit: Limit) -> Take:
    """Return what takes tokens from the buckets in Redis, by Redis's own clock."""

    async def take(key: str, wanted: int) -> Grant:
        arguments = (limit.rate_per_s, limit.burst, wanted)
        granted, left = await redis.evaluate(_TAKE, [f"rate:{key}"], arguments)
        return Grant(int(granted), float(left))

    return take


class _Share:
    """What this gateway holds for one key."""

    def __init__(self, local: Bucket) -> None:
        self.local = local
        self.tokens = 0
        self.few = 0
        """With less than so many tokens the next lease is taken, if the last one left some."""
        self.good_until = 0.0
        self.left = 0.0
        """What the shared bucket held after the last lease."""
        self.empty_until = 0.0
        self.asking: asyncio.Task[None] | None = None


class RateLimits:
    """Decides for each request of a key whether it may pass."""

    def __init__(
        self, take: Take, limit: Limit, local_share: float, clock: Callable[[], float]
    ) -> None:
        self._take = take
        self._limit = limit
        self._local = Limit(limit.rate_per_s * local_share, max(1, int(limit.burst * local_share)))
        self._lease = max(1, int(limit.rate_per_s * LEASE_S))
        self._clock = clock
        self._shares: OrderedDict[str, _Share] = OrderedDict()

    async def check(self, key: str) -> Verdict:
        """Spend one token of a key, if there is one."""
        share = self._share(key)
        while True:
            now = self._clock()
            if share.tokens > 0 and now < share.good_until:
                share.tokens -= 1
                if share.tokens < share.few:
                    self._renewal(key, share)
                return Verdict(True, self._limit, share.tokens + share.left)
            if now < share.empty_until:
                metrics.requests_limited.labels("shared").inc()
                return Verdict(False, self._limit, share.left)
            try:
                await asyncio.shield(self._renewal(key, share))
            except Unavailable:
                return self._check_alone(share)

    def _check_alone(self, share: _Share) -> Verdict:
        granted, left = share.local.take(1, self._clock())
        if not granted:
            metrics.requests_limited.labels("local").inc()
        return Verdict(granted > 0, self._local, left)

    def _share(self, key: str) -> _Share:
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = _Share(Bucket(self._local, self._clock()))
            while len(self._shares) > KEYS_MAX:
                self._shares.popitem(last=False)
        self._shares.move_to_end(key)
        return share

    def _renewal(self, key: str, share: _Share) -> asyncio.Task[None]:
        """Take a lease; requests that come meanwhile wait for the same one."""
        if share.asking is None:
            share.asking = asyncio.create_task(self._renew(key, share), name="rate-limit-lease")
            share.asking.add_done_callback(note_failure)
        return share.asking

    async def _renew(self, key: str, share: _Share) -> None:
        asked_at = self._clock()
        try:
            granted, share.left = await self._take(key, self._lease)
        finally:
            share.asking = None
        unspent = share.tokens if self._clock() < share.good_until else 0
        share.tokens = unspent + granted
        share.few = min(granted, int(share.left)) // 2
        share.good_until = asked_at + LEASE_TIMEOUT_S
        if share.tokens == 0:
            share.empty_until = self._clock() + (1 - share.left) / self._limit.rate_per_s


def limited(guard: Guard, limits: RateLimits) -> Guard:
    """Return a guard that also holds who has an API key to its limit; every answer says it."""

    async def check(request: web.Request) -> None:
        await guard(request)
        holder = request.get(HOLDER)
        if holder is None:
            return
        verdict = await limits.check(holder.key_id)
        request[ANSWER_HEADERS].update(verdict.headers())
        if not verdict.allowed:
            raise Problem("rate_limited", retry_after_s=verdict.retry_after_s)

    return check
