"""Connector processes at a simulated provider: one that stops at a point, and its successor."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import pytest

from services.connectors import http, registry
from services.connectors.base import Echo, StatusUpdate
from services.connectors.evidence import Evidence
from services.connectors.http import ProviderHttp
from services.connectors.instagram.tests import simulated as instagram
from services.connectors.intake import Intake
from services.connectors.lanes import Lanes
from services.connectors.ledger import Ledger
from services.connectors.outcomes import Outcomes
from services.connectors.reporter import Reporter
from services.connectors.results import Results
from services.connectors.sending import Sending
from services.connectors.telegram.tests import simulated as telegram
from services.connectors.tests import doubles
from services.connectors.tests.bench import LANE, Bench
from services.connectors.whatsapp.tests import simulated as whatsapp
from services.connectors.worker import Worker
from services.contracts.records import DeliveryRequested
from services.runtime.kafka.consumer import Received
from services.runtime.postgres import Postgres

POINTS = (
    *("before claim", "claimed", "connected", "half written", "written"),
    *("answer read", "result stored", "told"),
)


class Side(NamedTuple):
    """A channel's simulator for tests, and who is on which end of it."""

    module: Any
    accounts: dict[str, Any]
    account: str
    address: str
    gives_evidence: bool


SIDES = {
    "whatsapp": Side(whatsapp, {"shop": whatsapp.SHOP}, "shop", whatsapp.CUSTOMER, True),
    "telegram": Side(telegram, telegram.ACCOUNTS, "main", str(telegram.CHAT), False),
    "instagram": Side(instagram, instagram.ACCOUNTS, "main", instagram.CUSTOMER, True),
}


class Point:
    """Where a process stops: it says that it is there, and goes on when it is let."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.release = asyncio.Event()

    async def stop(self) -> None:
        """Be there."""
        self.reached.set()
        await self.release.wait()

    def before(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Return a call that stops before it is made."""

        async def stopped(*args: Any, **kwargs: Any) -> Any:
            await self.stop()
            return await call(*args, **kwargs)

        return stopped

    def after(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Return a call that stops after it was made."""

        async def stopped(*args: Any, **kwargs: Any) -> Any:
            answer = await call(*args, **kwargs)
            await self.stop()
            return answer

        return stopped


@asynccontextmanager
async def wire(url: str, point: Point, *, half: bool) -> AsyncIterator[str]:
    """Lend a way to a provider that stops with half of a request passed on, or with its answer."""
    parts = urlsplit(url)
    writers: list[asyncio.StreamWriter] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(parts.hostname, parts.port)
        writers.extend((writer, far_writer))
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            )
            request = head + await reader.readexactly(length)
            middle = len(head) + length // 2 if half else len(request)
            far_writer.write(request[:middle])
            await far_writer.drain()
            if half:
                await point.stop()
                far_writer.write(request[middle:])
            answer = await far_reader.readuntil(b"\r\n\r\n")
            if not half:
                await point.stop()
            writer.write(answer)
            while data := await far_reader.read(65536):
                writer.write(data)
        except (ConnectionError, asyncio.IncompleteReadError):
            return

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            for writer in writers:
                writer.close()


class Process:
    """What a connector process does, from the record to the users."""

    def __init__(self, bench: Bench, name: str, channel: str, url: str) -> None:
        side, loaded = SIDES[channel], registry.load(channel)
        told = {
            "service_name": f"connector-{channel}",
            "instance_id": name,
            "http_host": "127.0.0.1",
            "http_port": 1,
            "consul_http_addr": "127.0.0.1:1",
            "internal_token": "internal-token-of-tests",
            "channel": channel,
            "provider_url": url,
            "accounts": msgspec.to_builtins(side.accounts),
        }
        config = msgspec.convert(told, loaded.config)
        clock = asyncio.get_running_loop().time
        postgres = cast("Postgres", SimpleNamespace(pool=bench.pool))
        self.http = ProviderHttp(url, cast("Any", None), timeout_s=30)
        self.connector: Any = loaded.create(config, self.http)
        self.ledger: Any = Ledger(postgres, bench.channel, name)
        self.outcomes: Any = Outcomes(postgres, bench.channel)
        evidence = Evidence(postgres, bench.channel)
        self.reporter: Any = Reporter(
            self.outcomes, evidence, cast("Any", bench.users), bench.channel
        )
        sending = Sending(
            self.connector,
            cast("Any", doubles.Accounts(*side.accounts)),
            limited=False,
            sends_max=4,
            clock=clock,
        )
        results = Results(self.outcomes, self.reporter, bench.channel)
        worker = Worker(self.connector, self.ledger, results, sending, clock)
        self.lanes = Lanes(self.ledger, results, worker, clock)
        self.intake = Intake(self.connector, self.ledger, self.lanes)
        self.tasks = [
            asyncio.create_task(work)
            for work in (self.lanes.run(), self.lanes.refill(), self.reporter.run())
        ]

    async def take_over(self) -> None:
        """Own the lane's partition."""
        self.lanes.assigned(frozenset({LANE.partition}))
        async with asyncio.timeout(5):
            while not self.lanes.partitions:
                await asyncio.sleep(0)

    async def kill(self) -> None:
        """End at once: nothing more is stored, told or written."""
        self.lanes._owned.clear()
        tasks = [*self.tasks, *self.lanes._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.http.close()


class Stage:
    """A provider, a process that will stop at a point, and the one that succeeds it."""

    def __init__(
        self, bench: Bench, channel: str, world: Any, point: Point, first: Process, second: Process
    ) -> None:
        self.bench, self.channel, self.world, self.point = bench, channel, world, point
        self.first, self.second = first, second
        self.heard = 0

    async def kept(self) -> list[str]:
        """Return the texts that the provider kept, in its order."""
        return [one["text"] for one in await self.world.receipts() if one["kept"]]

    async def hear(self) -> None:
        """Let the successor hear the webhooks that came since."""
        side = SIDES[self.channel]
        hooks, self.heard = self.world.webhooks[self.heard :], len(self.world.webhooks)
        for hook in hooks:
            raw = hook[0] if isinstance(hook[0], bytes) else hook.raw
            updates = self.second.connector.parse_webhook(side.account, raw) or []
            echoes = [one for one in updates if isinstance(one, Echo)]
            await self.bench.tell(*await self.bench.echoes.place(side.account, echoes))
            statuses = [one for one in updates if isinstance(one, StatusUpdate)]
            await self.bench.hear(*statuses, account=side.account)
        await self.bench.tell(*await self.bench.echoes.look())

    async def until(self, met: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a condition that time passing and webhooks may bring about."""
        async with asyncio.timeout(10):
            while not await met():
                await self.hear()
                await asyncio.sleep(0.01)


@asynccontextmanager
async def stage(
    bench: Bench, folder: Path, channel: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    """Run a provider and two processes; the first, which owns the lane, stops at a point."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(SIDES[channel].module.simulator(folder))
        point, url = Point(), world.url
        if at in ("half written", "written"):
            url = await stack.enter_async_context(wire(url, point, half=at == "half written"))
        first = Process(bench, "first", channel, url)
        stack.push_async_callback(first.kill)
        second = Process(bench, "second", channel, world.url)
        stack.push_async_callback(second.kill)
        if at == "before claim":
            first.ledger.claim = point.before(first.ledger.claim)
        elif at == "claimed":
            first.ledger.claim = point.after(first.ledger.claim)
        elif at == "connected":
            _stop_when_connected(first, point, monkeypatch)
        elif at == "answer read":
            first.connector.send = point.after(first.connector.send)
        elif at == "result stored":
            first.outcomes.accepted = point.after(first.outcomes.accepted)
        elif at == "told":
            first.outcomes.mark_reported = point.after(first.outcomes.mark_reported)
        await first.take_over()
        yield Stage(bench, channel, world, point, first, second)


def _stop_when_connected(first: Process, point: Point, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop where the connection stands and the lease was not looked at yet."""
    send = http._LeasedRequest.send

    async def stopped(request: Any, conn: Any) -> Any:
        if conn._connector is first.http._session.connector:
            await point.stop()
        return await send(request, conn)

    monkeypatch.setattr(http._LeasedRequest, "send", stopped)


def received(
    channel: str, message_id: UUID, content: str, *, at_least_once: bool = False
) -> Received:
    """Return the record of a delivery in the lane, as it comes again and again."""
    side = SIDES[channel]
    record = DeliveryRequested(
        message_id=message_id,
        conversation_id=LANE.conversation_id,
        recipient_id=LANE.recipient_id,
        channel="TEST",
        address=side.address,
        content=content,
        accepted_at=doubles.row().accepted_at,
        account=side.account,
        at_least_once=at_least_once,
    )
    return Received(record, "outbound.test", LANE.partition, 0, None)
