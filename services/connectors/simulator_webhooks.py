"""Delivers webhooks as a provider does: in batches, signed, repeated until they are taken."""

import asyncio
import heapq
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import aiohttp

from services.runtime.app import App
from services.runtime.telemetry.log import log
from services.runtime.unavailable import Unavailable

FLUSH_INTERVAL_S = 0.4
BATCH_MAX = 100
BATCH_SIZE_MAX_BYTES = 200_000
POSTS_MAX = 16
"""Requests under way for one account."""
PENDING_MAX = 500_000
POST_TIMEOUT_S = 10.0
VERIFY_INTERVAL_S = 0.5
DRAIN_TIMEOUT_S = 5.0
CONSUL_SCHEME = "consul://"
_log = log(__name__)


class Update(NamedTuple):
    """Something to tell an account's owner: the list it stands in and its JSON."""

    account: str
    kind: str
    node: bytes


class Timed(NamedTuple):
    """An update and when (loop time) it becomes due, unless a fault holds it."""

    due: float
    update: Update
    held_by: int | None = None
    attempted: asyncio.Event | None = None


@dataclass(slots=True)
class Post:
    """One webhook request: its exact bytes, the same on every attempt."""

    account: str
    raw: bytes
    born_at: float
    updates: int = 1
    attempts: int = 0
    attempted: list[asyncio.Event] = field(default_factory=list)


class Wire(NamedTuple):
    """What differs between providers: how updates become a body, how a body is signed.

    `sign` returns headers, `sign_query` what stands in the address. `challenge` returns the query
    that verifies an address; a provider without one sends to any. A body carries `batch_max`.
    """

    compose: Callable[[str, list[Update]], bytes]
    sign: Callable[[str, bytes], Mapping[str, str]]
    challenge: Callable[[str, str], Mapping[str, str]] | None = None
    sign_query: Callable[[str, bytes], Mapping[str, str]] | None = None
    batch_max: int = BATCH_MAX


class Answered(NamedTuple):
    """How a webhook was answered."""

    status: int
    reason: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Patience:
    """How a provider repeats what was not taken: the delay doubles from first to max."""

    first_s: float
    max_s: float
    horizon_s: float

    def delay_s(self, attempts: int) -> float:
        """Return how long to wait after so many attempts."""
        return min(self.max_s, self.first_s * 2.0 ** min(attempts - 1, 30))


@dataclass(slots=True)
class Subscription:
    """One account's webhook: updates wait until its address has answered the challenge."""

    verified: bool = False
    attempts: int = 0
    last_error: str | None = None
    fresh: deque[Timed] = field(default_factory=deque)
    again: deque[Post] = field(default_factory=deque)
    posts: int = 0


@dataclass(slots=True)
class Counters:
    """What became of updates and of the requests that carried them."""

    updates_sent: int = 0
    updates_dropped: int = 0
    updates_pending: int = 0
    posts_taken: int = 0
    attempts_failed: int = 0


class Webhooks:
    """One heap of timed updates, looked at a few times a second."""

    def __init__(self, app: App[Any], url: str, wire: Wire, patience: Patience) -> None:
        self._app = app
        self._url = url
        self._wire = wire
        self._patience = patience
        self._clock = asyncio.get_running_loop().time
        self._heap: list[tuple[float, int, Timed | Post]] = []
        self._order = count()
        self._waiting = asyncio.Event()
        self._idle = asyncio.Event()
        self._held: list[Timed] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.subscriptions: dict[str, Subscription] = {}
        self.counters = Counters()
        if url.startswith(CONSUL_SCHEME):
            app.discovery.upstream(_service(url))

    @property
    def full(self) -> bool:
        """True when no more updates should be made before some were taken."""
        return self.counters.updates_pending >= PENDING_MAX

    @property
    def held(self) -> int:
        """How many updates are held by a fault."""
        return len(self._held)

    def subscribe(self, account: str) -> None:
        """Begin to verify an account's address, until it answers, where there is a challenge."""
        unasked = self._wire.challenge is None
        self.subscriptions.setdefault(account, Subscription(verified=unasked))
        if not unasked:
            self._app.spawn(f"verify-{account}", self._keep_verifying(account))

    def schedule(self, plan: list[Timed]) -> None:
        """Take updates to be sent when they become due."""
        self.counters.updates_pending += len(plan)
        for timed in plan:
            if timed.held_by is not None:
                self._held.append(timed)
            else:
                self._push(timed.due, timed)

    def release(self, fault_ids: list[int]) -> None:
        """Let what some faults held become due."""
        freed = [timed for timed in self._held if timed.held_by in fault_ids]
        self._held = [timed for timed in self._held if timed.held_by not in fault_ids]
        for timed in freed:
            self._push(self._clock(), timed)

    async def run(self) -> None:
        """Send what becomes due, for ever."""
        while True:
            if not self._heap:
                self._waiting.clear()
                await self._waiting.wait()
            await asyncio.sleep(FLUSH_INTERVAL_S)
            self._flush(self._clock())

    async def close(self) -> None:
        """Send what is pending without waiting for its time, as far as it is taken at once."""
        self._flush(float("inf"))
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while self._tasks:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            for task in self._tasks:
                task.cancel()
        if self.counters.updates_pending:
            _log.warning("webhooks_not_taken", updates=self.counters.updates_pending)

    async def verify(self, account: str) -> bool:
        """Send the verification challenge once; tell whether it was answered with its text."""
        subscription = self.subscriptions[account]
        if self._wire.challenge is None:
            return subscription.verified
        subscription.attempts += 1
        challenge = secrets.token_hex(8)
        try:
            async with self._app.session.get(
                self._target(account),
                params=self._wire.challenge(account, challenge),
                timeout=aiohttp.ClientTimeout(total=POST_TIMEOUT_S),
                allow_redirects=False,
            ) as answer:
                echoed = answer.status == 200 and await answer.text() == challenge  # noqa: PLR2004
                subscription.last_error = None if echoed else f"answered {answer.status}"
        except (aiohttp.ClientError, OSError, TimeoutError, Unavailable) as error:
            subscription.last_error = repr(error)
            return False
        subscription.verified = subscription.verified or echoed
        return echoed

    async def send_raw(self, account: str, raw: bytes) -> Answered:
        """Send one signed webhook once and return how it was answered."""
        async with self._app.session.post(
            self._target(account),
            params=self._wire.sign_query(account, raw) if self._wire.sign_query else None,
            data=raw,
            headers=self._wire.sign(account, raw),
            timeout=aiohttp.ClientTimeout(total=POST_TIMEOUT_S),
            allow_redirects=False,
        ) as answer:
            return Answered(answer.status, answer.reason or "", answer.headers)

    async def _keep_verifying(self, account: str) -> None:
        subscription = self.subscriptions[account]
        while not await self.verify(account) and not subscription.verified:
            if subscription.attempts == 1:
                _log.warning("not_verified", account=account, error=subscription.last_error)
            await asyncio.sleep(VERIFY_INTERVAL_S)
        _log.info("verified", account=account)
        self._pump(account, subscription)

    def _push(self, due: float, item: Timed | Post) -> None:
        heapq.heappush(self._heap, (due, next(self._order), item))
        self._waiting.set()

    def _flush(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            item = heapq.heappop(self._heap)[2]
            if isinstance(item, Post):
                self.subscriptions[item.account].again.append(item)
            else:
                self.subscriptions[item.update.account].fresh.append(item)
        for account, subscription in self.subscriptions.items():
            self._pump(account, subscription)

    def _pump(self, account: str, subscription: Subscription) -> None:
        while subscription.verified and subscription.posts < POSTS_MAX:
            if subscription.again:
                post = subscription.again.popleft()
            elif subscription.fresh:
                post = self._compose(account, subscription.fresh)
            else:
                return
            subscription.posts += 1
            task = asyncio.create_task(self._send(post, subscription), name=f"webhook-{account}")
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _compose(self, account: str, fresh: deque[Timed]) -> Post:
        taken: list[Timed] = []
        size_bytes = 0
        while fresh and len(taken) < self._wire.batch_max and size_bytes < BATCH_SIZE_MAX_BYTES:
            taken.append(fresh.popleft())
            size_bytes += len(taken[-1].update.node)
        raw = self._wire.compose(account, [timed.update for timed in taken])
        return Post(
            account=account,
            raw=raw,
            born_at=self._clock(),
            updates=len(taken),
            attempted=[timed.attempted for timed in taken if timed.attempted],
        )

    async def _send(self, post: Post, subscription: Subscription) -> None:
        taken = False
        try:
            answered = await self.send_raw(post.account, post.raw)
            taken = answered.status == 200  # noqa: PLR2004
        except (aiohttp.ClientError, OSError, TimeoutError, Unavailable) as error:
            subscription.last_error = repr(error)
        finally:
            subscription.posts -= 1
        post.attempts += 1
        for event in post.attempted:
            event.set()
        self._settle(post, taken=taken)
        self._pump(post.account, subscription)

    def _settle(self, post: Post, *, taken: bool) -> None:
        if taken:
            self.counters.posts_taken += 1
            self.counters.updates_sent += post.updates
            self.counters.updates_pending -= post.updates
            return
        self.counters.attempts_failed += 1
        due = self._clock() + self._patience.delay_s(post.attempts)
        if due < post.born_at + self._patience.horizon_s:
            self._push(due, post)
        else:
            self.counters.updates_dropped += post.updates
            self.counters.updates_pending -= post.updates

    def _target(self, account: str) -> str:
        url = self._url.replace("{account}", account)
        if not url.startswith(CONSUL_SCHEME):
            return url
        service = _service(url)
        instance = self._app.discovery.upstream(service).choose(self._clock())
        return f"http://{instance.address}{url.removeprefix(CONSUL_SCHEME + service)}"

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("webhook_failed", exc_info=error)
        if not self._tasks:
            self._idle.set()


def _service(url: str) -> str:
    return url.removeprefix(CONSUL_SCHEME).partition("/")[0]
