"""What all simulators share: the witness, quotas, faults, and webhooks that are repeated."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.connectors.simulator import Quota
from services.connectors.simulator_faults import Fault, Faults, Kind
from services.connectors.simulator_receipts import SPAN_LINES, Receipt, Receipts
from services.connectors.simulator_webhooks import (
    BATCH_MAX,
    Patience,
    Timed,
    Update,
    Webhooks,
    Wire,
)
from services.runtime.app import App
from services.runtime.config import Config
from services.runtime.consul import Consul

ACCOUNT = "shop"
SOON = Patience(first_s=0.02, max_s=0.05, horizon_s=60)


@dataclass
class Receiver:
    """A webhook's address that answers what the test wants, then 200."""

    answers: list[int] = field(default_factory=list)
    verifications: list[int] = field(default_factory=list)
    posts: list[bytes] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, request: web.Request) -> web.Response:
        """Keep a webhook."""
        self.posts.append(await request.read())
        self.queries.append(dict(request.query))
        async with self.came:
            self.came.notify_all()
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers={"Retry-After": "7"})

    async def verify(self, request: web.Request) -> web.Response:
        """Answer the challenge."""
        status = self.verifications.pop(0) if self.verifications else 200
        return web.Response(text=request.query["challenge"], status=status)

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait until something holds after a webhook came."""
        async with asyncio.timeout(5), self.came:
            await self.came.wait_for(met)

    def numbers(self) -> list[int]:
        """Return the numbers of all updates that came, in order."""
        return [number for raw in self.posts for number in json.loads(raw)]


@asynccontextmanager
async def webhooks(
    receiver: Receiver, patience: Patience = SOON, **wire: Any
) -> AsyncIterator[tuple[Webhooks, App[Config]]]:
    """Run webhooks towards a receiver."""
    address = web.Application()
    address.router.add_post("/hook/{account}", receiver.take)
    address.router.add_get("/hook/{account}", receiver.verify)
    async with TestServer(address) as server, aiohttp.ClientSession() as session:
        config = Config(
            service_name="provider-toy",
            instance_id="1",
            http_host="127.0.0.1",
            http_port=1,
            consul_http_addr="127.0.0.1:1",
            internal_token="token-of-the-tests",
        )
        app: App[Any] = App(config, session, Consul("127.0.0.1:1", session))
        differences: dict[str, Any] = {"challenge": lambda _name, text: {"challenge": text}}
        made = Webhooks(
            app,
            str(server.make_url("/hook/")) + "{account}",
            Wire(
                compose=lambda _name, updates: b"[" + b",".join(u.node for u in updates) + b"]",
                sign=lambda _name, _raw: {},
                **differences | wire,
            ),
            patience,
        )
        made.subscribe(ACCOUNT)
        app.spawn("webhooks", made.run())
        app.on_stop("webhooks", made.close)
        try:
            yield made, app
        finally:
            await app.close()


def updates(count: int, *, due: float = 0.0) -> list[Timed]:
    """Return numbered updates."""
    return [Timed(due, Update(ACCOUNT, "update", b"%d" % number)) for number in range(count)]


def plan_of(dues: list[float]) -> list[Timed]:
    """Return updates with these times."""
    return [Timed(due, Update(ACCOUNT, "update", b"%d" % n)) for n, due in enumerate(dues)]


async def test_receipts_are_paged_in_order(tmp_path: Path) -> None:
    """Pages across the remembered offsets give every receipt once, in order."""
    receipts = Receipts(tmp_path / "receipts.jsonl")
    total = 2 * SPAN_LINES + 10
    for number in range(total):
        receipts.append(Receipt(received_at=1.0, to=f"to-{number % 2}", text='"to":"to-9"'))
    found: list[int] = []
    after = 0
    while page := receipts.page(after, 500, None).items:
        found += [msgspec.json.decode(item)["seq"] for item in page]
        after = found[-1]
    assert found == list(range(1, total + 1))
    assert len(receipts.page(0, 10_000, "to-1").items) == total // 2
    assert receipts.page(0, 10_000, "to-9") == ([], total)
    await receipts.close()


async def test_receipts_survive_a_restart(tmp_path: Path) -> None:
    """A new run goes on behind the last line, also when a crash left half a line."""
    path = tmp_path / "receipts.jsonl"
    first = Receipts(path)
    first.append(Receipt(received_at=1.0, to="a"))
    await first.close()
    with path.open("ab") as file:
        file.write(b'{"seq":2,"rec')
    second = Receipts(path)
    second.append(Receipt(received_at=3.0, to="b"))
    page = second.page(0, 10, None)
    assert [msgspec.json.decode(item)["seq"] for item in page.items] == [1, 3]
    assert page.next_after == 3
    await second.close()


def test_quota_lends_a_burst_and_takes_it_back() -> None:
    """45 at once, none directly after, one after each interval; other keys are not touched."""
    quota = Quota(rate_per_s=1 / 6, burst=45)
    assert all(quota.take("pair", 1000.0) for _ in range(45))
    assert not quota.take("pair", 1005.9)
    assert quota.take("pair", 1006.1)
    assert not quota.take("pair", 1006.2)
    assert quota.take("other", 1006.2)


async def test_a_fault_happens_as_often_as_it_says_and_to_whom_it_says() -> None:
    """The count and the recipient limit a fault; without them it always happens."""
    faults = Faults()
    faults.add(Fault(kind=Kind.ERROR, to="1", count=2))
    courses = [faults.course(ACCOUNT, to) for to in ("1", "2", "1", "1")]
    assert [course.refused for course in courses] == [True, False, True, False]
    faults.add(Fault(kind=Kind.ANSWER_LOST))
    assert not faults.course(ACCOUNT, "2").answered
    assert len(faults.remove()) == 2
    assert faults.course(ACCOUNT, "2").answered


@pytest.mark.parametrize(
    ("kind", "dues"),
    [
        pytest.param(Kind.WEBHOOK_DUPLICATE, [10, 11, 12, 10.5, 11.5, 12.5], id="duplicate"),
        pytest.param(Kind.WEBHOOK_REORDER, [12, 11, 10], id="reorder"),
        pytest.param(Kind.WEBHOOK_BATCH, [12, 12, 12], id="batch"),
        pytest.param(Kind.WEBHOOK_BEFORE_ANSWER, [9, 11, 12], id="before-answer"),
        pytest.param(Kind.WEBHOOK_HOLD, [10, 11, 12], id="hold"),
    ],
)
async def test_a_webhook_fault_bends_the_times_of_updates(kind: Kind, dues: list[float]) -> None:
    """Every webhook fault is a change of a plan, and of nothing else."""
    faults = Faults()
    standing = faults.add(Fault(kind=kind, delay_s=0.5))
    plan = faults.bend(plan_of([10, 11, 12]), ACCOUNT, "1", now=9)
    assert [timed.due for timed in plan] == dues
    held = standing.id if kind is Kind.WEBHOOK_HOLD else None
    assert {timed.held_by for timed in plan} == {held}
    assert (plan[0].attempted is not None) == (kind is Kind.WEBHOOK_BEFORE_ANSWER)


async def test_updates_are_batched() -> None:
    """Many updates need few requests, and none carries more than the limit."""
    receiver = Receiver()
    async with webhooks(receiver) as (made, _):
        made.schedule(updates(3 * BATCH_MAX))
        await receiver.until(lambda: len(receiver.numbers()) == 3 * BATCH_MAX)
        assert sorted(receiver.numbers()) == list(range(3 * BATCH_MAX))
        assert len(receiver.posts) == 3


@pytest.mark.parametrize("refusal", [500, 404, 401, 302, 202], ids=str)
async def test_what_is_not_taken_is_repeated_unchanged(refusal: int) -> None:
    """Anything but 200 is repeated with the same bytes until it is 200."""
    receiver = Receiver(answers=[refusal, refusal])
    async with webhooks(receiver) as (made, _):
        made.schedule(updates(2))
        await receiver.until(lambda: len(receiver.posts) == 3)
        assert len(set(receiver.posts)) == 1
    assert made.counters.updates_sent == 2
    assert made.counters.updates_pending == 0
    assert made.counters.attempts_failed == 2


async def test_what_is_too_old_is_dropped() -> None:
    """Behind the horizon an update is given up, and that is counted."""
    receiver = Receiver(answers=[500] * 100)
    async with webhooks(receiver, Patience(0.01, 0.02, horizon_s=0.1)) as (made, _):
        made.schedule(updates(2))
        async with asyncio.timeout(5):
            while made.counters.updates_dropped == 0:
                await asyncio.sleep(0.01)
    assert made.counters.updates_dropped == 2
    assert made.counters.updates_pending == 0


async def test_nothing_is_sent_before_the_address_is_verified() -> None:
    """The challenge is repeated until it is answered; updates wait for that."""
    receiver = Receiver(verifications=[500, 403])
    async with webhooks(receiver) as (made, _):
        made.schedule(updates(1))
        await receiver.until(lambda: receiver.numbers() == [0])
        assert made.subscriptions[ACCOUNT].attempts == 3
        assert made.subscriptions[ACCOUNT].last_error is None


async def test_a_provider_may_ask_nothing_and_sign_the_address() -> None:
    """Without a challenge an address is good at once; each update goes alone, signed in its query.

    What was answered is returned with its headers.
    """
    receiver = Receiver(verifications=[500] * 100)

    def sign(_name: str, raw: bytes) -> dict[str, str]:
        return {"signature": raw.hex()}

    async with webhooks(receiver, challenge=None, batch_max=1, sign_query=sign) as (made, _):
        assert await made.verify(ACCOUNT)
        made.schedule(updates(3))
        await receiver.until(lambda: len(receiver.posts) == 3)
        assert sorted(receiver.posts) == [b"[0]", b"[1]", b"[2]"]
        assert [query["signature"] for query in receiver.queries] == [
            raw.hex() for raw in receiver.posts
        ]
        answered = await made.send_raw(ACCOUNT, b"[]")
        assert (answered.status, answered.reason) == (200, "OK")
        assert answered.headers["retry-after"] == "7"


async def test_held_updates_wait_for_their_release() -> None:
    """What one fault holds is sent when that one is released, and not before."""
    receiver = Receiver()
    async with webhooks(receiver) as (made, _):
        made.schedule([timed._replace(held_by=7) for timed in updates(2)])
        made.schedule([Timed(0.0, Update(ACCOUNT, "update", b"9"))])
        await receiver.until(lambda: receiver.numbers() == [9])
        made.release([6])
        assert made.held == 2
        made.release([7])
        await receiver.until(lambda: receiver.numbers() == [9, 0, 1])


async def test_a_graceful_stop_sends_what_is_not_due_yet() -> None:
    """Pending updates leave when the process does."""
    receiver = Receiver()
    async with webhooks(receiver) as (made, app):
        made.schedule(updates(1))
        await receiver.until(lambda: receiver.numbers() == [0])
        made.schedule(updates(1, due=asyncio.get_running_loop().time() + 3600))
        await app.close()
        assert receiver.numbers() == [0, 0]
