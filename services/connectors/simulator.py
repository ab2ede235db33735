"""What all provider simulators share: receipts, faults, webhooks and the API that controls them.

A simulator speaks the provider's side, and under `/_sim/` is controlled: write as a customer, read
receipts, switch faults, look at its state. That part is open to whoever reaches the port, because
a simulator is never deployed in production and holds nothing but made-up accounts.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, Protocol, TypeVar

import aiohttp
import msgspec
from aiohttp import web
from msgspec import Meta, Raw, Struct

from services.connectors.simulator_faults import Course, Fault, Faults, Plan, Standing
from services.connectors.simulator_receipts import Receipt, Receipts
from services.connectors.simulator_webhooks import (
    Counters,
    Patience,
    Timed,
    Update,
    Webhooks,
)
from services.contracts.problems import Problem
from services.runtime.app import App
from services.runtime.config import Config
from services.runtime.http.routes import Reply, endpoint, routes_of
from services.runtime.unavailable import Unavailable

CONTROL_PREFIX = "/_sim/"
REAL = "real"
ATTEMPT_TIMEOUT_S = 5.0
BUCKETS_MAX = 100_000


class SimulatorConfig(Config, frozen=True, kw_only=True):
    """What every simulator is told; a channel's own adds its accounts."""

    webhook_url: str
    receipts_path: str
    quota_profile: Annotated[str, Meta(pattern="^(real|high-quota)$")] = "high-quota"
    webhook_retry_first_s: float = 0.5
    webhook_retry_max_s: float = 10.0
    webhook_horizon_s: float = 7 * 86400.0

    @property
    def patience(self) -> Patience:
        """How webhooks are repeated."""
        return Patience(
            self.webhook_retry_first_s, self.webhook_retry_max_s, self.webhook_horizon_s
        )


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be switched while it runs: the statuses each kept message gets, and how fast."""

    statuses: tuple[str, ...] = ()
    status_delay_s: Annotated[float, Meta(ge=0, le=3600)] = 0.1


class Quota:
    """So many per second over time, and a burst that is borrowed from later (GCRA)."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._interval_s = 1.0 / rate_per_s
        self._borrow_s = burst * self._interval_s
        self._paid_until: dict[object, float] = {}

    def take(self, key: object, now: float) -> bool:
        """Take one; False when the quota of this key is used up."""
        paid_until = max(self._paid_until.get(key, now), now) + self._interval_s
        if paid_until > now + self._borrow_s:
            return False
        if len(self._paid_until) >= BUCKETS_MAX:
            self._paid_until = {k: t for k, t in self._paid_until.items() if t > now}
        self._paid_until[key] = paid_until
        return True


class CustomerMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something a customer writes to one of our accounts (the first, when not named)."""

    sender: Annotated[str, Meta(min_length=1, max_length=128)] = msgspec.field(name="from")
    text: Annotated[str, Meta(min_length=1)]
    account: str | None = None
    name: str | None = None
    reply_to: str | None = None


class RawWebhook(Struct, frozen=True, forbid_unknown_fields=True):
    """A webhook to be signed and sent with exactly these bytes: those of JSON, or of any text."""

    body: Raw = Raw(b"")
    text: str = ""
    account: str | None = None


class ReceiptsQuery(Struct, frozen=True):
    """Which receipts: behind a seq, at most so many, perhaps of one recipient."""

    after: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    to: str | None = None


class FaultPath(Struct, frozen=True):
    """One fault."""

    fault_id: int


class AccountQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """One account (the first, when not named)."""

    account: str | None = None


class Verification(Struct, frozen=True):
    """How far the verification of an account's webhook address came."""

    verified: bool
    attempts: int
    last_error: str | None


class State(Struct, frozen=True, kw_only=True):
    """What happened since the simulator started; `last_seq` counts earlier runs too."""

    received: int
    kept: int
    last_seq: int
    updates_held: int
    webhooks: Counters
    verification: dict[str, Verification]


S = TypeVar("S", bound=Settings)


class Customer(Protocol):
    """What a channel does when a customer writes to an account."""

    def __call__(self, account: str, message: CustomerMessage, /) -> str:
        """Tell the account's webhook about it and return the message's provider id."""


class Channel(NamedTuple, Generic[S]):
    """A channel's own part of a simulator."""

    accounts: frozenset[str]
    webhooks: Webhooks
    write: Customer
    settings: S


class Simulator(Generic[S]):
    """The shared half of a provider simulator; a channel's routes use it to keep and to answer."""

    def __init__(self, app: App[Any], channel: Channel[S]) -> None:
        config: SimulatorConfig = app.config
        self.accounts = channel.accounts
        self.settings = channel.settings
        self.faults = Faults()
        self.receipts = Receipts(Path(config.receipts_path))
        self.webhooks = channel.webhooks
        self.received = 0
        self.kept = 0
        self._clock = asyncio.get_running_loop().time
        app.spawn("receipts", self.receipts.keep_synced())
        app.spawn("webhooks", self.webhooks.run())
        app.on_stop("receipts", self.receipts.close)
        app.on_stop("webhooks", self.webhooks.close)
        for account in sorted(channel.accounts):
            self.webhooks.subscribe(account)
        app.http.on_shutdown.append(self._let_go)
        app.guard = _open
        app.http.router.add_routes(routes_of(Control(self, channel.write)))

    def tell(self, updates: list[Update], to: str) -> Plan:
        """Send an account's updates about one customer, spread over time, bent by the faults."""
        now = self._clock()
        delay_s = self.settings.status_delay_s
        plan = [Timed(now + delay_s * n, update) for n, update in enumerate(updates, 1)]
        plan = self.faults.bend(plan, updates[0].account, to, now)
        self.webhooks.schedule(plan)
        return plan

    async def finish(
        self, request: web.Request, course: Course, answer: web.Response, plan: Plan
    ) -> web.Response:
        """Give the answer in the way its course has it: now, later, or never."""
        for timed in plan:
            if timed.attempted is not None:
                await _within(ATTEMPT_TIMEOUT_S, timed.attempted)
        if course.wait_s:
            await self.faults.wait(course.wait_s)
        if not course.answered and request.transport is not None:
            request.transport.abort()
        return answer

    def record(self, receipt: Receipt) -> None:
        """Write a receipt, before the answer it tells of goes out."""
        self.received += 1
        self.kept += receipt.kept
        self.receipts.append(receipt)

    async def _let_go(self, _app: web.Application) -> None:
        self.faults.remove()


class Control(Generic[S]):
    """The API under `/_sim/`."""

    def __init__(self, simulator: Simulator[S], write: Customer) -> None:
        self._simulator = simulator
        self._write = write

    @endpoint("GET", CONTROL_PREFIX + "state")
    async def state(self) -> State:
        """Return the counters and the state of the webhooks."""
        simulator = self._simulator
        return State(
            received=simulator.received,
            kept=simulator.kept,
            last_seq=simulator.receipts.seq,
            updates_held=simulator.webhooks.held,
            webhooks=simulator.webhooks.counters,
            verification={
                account: Verification(found.verified, found.attempts, found.last_error)
                for account, found in simulator.webhooks.subscriptions.items()
            },
        )

    @endpoint("GET", CONTROL_PREFIX + "receipts")
    async def receipts(self, query: ReceiptsQuery) -> Mapping[str, object]:
        """Return receipts in the order they were written."""
        receipts = self._simulator.receipts
        page = await asyncio.to_thread(receipts.page, query.after, query.limit, query.to)
        return page._asdict()

    @endpoint("POST", CONTROL_PREFIX + "messages", status=201)
    async def write(self, body: CustomerMessage) -> Mapping[str, str]:
        """Write to an account as a customer."""
        return {"id": self._write(self._account(body.account), body)}

    @endpoint("POST", CONTROL_PREFIX + "webhooks")
    async def send_raw(self, body: RawWebhook) -> Mapping[str, object]:
        """Sign and send a webhook once, and return how it was answered."""
        account = self._account(body.account)
        raw = bytes(body.body) or body.text.encode()
        try:
            answer = await self._simulator.webhooks.send_raw(account, raw)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("the webhook's address", type(error).__name__) from error
        return {"status": answer.status, "headers": dict(answer.headers)}

    @endpoint("POST", CONTROL_PREFIX + "verify")
    async def verify(self, body: AccountQuery) -> Verification:
        """Send the verification challenge now."""
        account = self._account(body.account)
        verified = await self._simulator.webhooks.verify(account)
        found = self._simulator.webhooks.subscriptions[account]
        return Verification(verified, found.attempts, found.last_error)

    @endpoint("GET", CONTROL_PREFIX + "settings")
    async def settings(self) -> Settings:
        """Return the settings."""
        return self._simulator.settings

    @endpoint("PATCH", CONTROL_PREFIX + "settings")
    async def change(self, body: dict[str, Any]) -> Settings:
        """Change the settings that are named."""
        simulator = self._simulator
        merged = {**msgspec.to_builtins(simulator.settings), **body}
        try:
            simulator.settings = msgspec.convert(merged, type(simulator.settings))
        except msgspec.ValidationError as error:
            raise Problem("invalid_field", f"{error}.") from error
        return simulator.settings

    @endpoint("GET", CONTROL_PREFIX + "faults")
    async def faults(self) -> Mapping[str, list[Standing]]:
        """Return the faults that are set."""
        return {"items": self._simulator.faults.all()}

    @endpoint("POST", CONTROL_PREFIX + "faults", status=201)
    async def set_fault(self, body: Fault) -> Standing:
        """Set a fault."""
        if body.account is not None:
            self._account(body.account)
        return self._simulator.faults.add(body)

    @endpoint("DELETE", CONTROL_PREFIX + "faults")
    async def remove_faults(self) -> None:
        """Remove all faults; what they held is sent."""
        self._simulator.webhooks.release(self._simulator.faults.remove())

    @endpoint("DELETE", CONTROL_PREFIX + "faults/{fault_id}")
    async def remove_fault(self, path: FaultPath) -> Reply:
        """Remove one fault; what it held is sent."""
        gone = self._simulator.faults.remove(path.fault_id)
        if not gone:
            raise Problem("not_found", "There is no such fault.")
        self._simulator.webhooks.release(gone)
        return Reply(None, 204)

    def _account(self, name: str | None) -> str:
        accounts = self._simulator.accounts
        if name is None:
            return min(accounts)
        if name not in accounts:
            raise Problem("unknown_account", f"The accounts are: {', '.join(sorted(accounts))}.")
        return name


async def _open(_request: web.Request) -> None:
    """Let everybody in: strangers have the provider's own tokens, the control API needs none."""


async def _within(timeout_s: float, event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
