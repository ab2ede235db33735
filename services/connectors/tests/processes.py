"""Two connector processes at a simulated provider: one that meets its end, and its successor."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from services.connectors.instagram.tests import simulated as instagram
from services.connectors.ledger import CLAIM_BOUND_S
from services.connectors.telegram.tests import simulated as telegram
from services.connectors.tests import crashing, doubles
from services.connectors.tests.bench import LANE, Bench, Users
from services.connectors.tests.crashing import HOST, Orders
from services.connectors.whatsapp.tests import simulated as whatsapp
from services.contracts.records import DeliveryRequested, StatusChanged
from services.runtime.kafka.consumer import Received

INTERNAL_TOKEN = "internal-token-of-tests"
TIMEOUT_S = 20.0
UNKNOWN_DEADLINE_S = 60.0
POINTS = (
    *("before claim", "claimed", "connected", "lease checked", "half written", "written"),
    *("answer read", "result stored", "told", "offset not committed"),
)
"""In the order in which a delivery gets there."""
TELLING = ("told", "offset not committed")
"""Points that a delivery reaches while its lane has gone on already."""


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

# Each process is forked from one that has imported everything, which takes it some milliseconds.
forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(
    [
        "services.connectors.tests.crashing",
        *(f"services.connectors.{name}.connector" for name in SIDES),
    ]
)


class Process:
    """A connector that runs by itself: what it is told, what it tells the users, how it ends."""

    def __init__(self, orders: Orders, users: Users) -> None:
        self._users = users
        self._orders = orders
        self._stopped_at = 0.0
        self._loop = asyncio.get_running_loop()
        self.port: asyncio.Future[int] = self._loop.create_future()
        self._silent = asyncio.Event()
        self._wire, theirs = forks.Pipe()
        self._process = forks.Process(target=crashing.live, args=(orders, theirs))
        self._process.start()
        theirs.close()
        self._loop.add_reader(self._wire.fileno(), self._hear)

    def take_over(self) -> None:
        """Let it own the lane's partition."""
        self._wire.send(("own", frozenset({LANE.partition})))

    def handle(self, batch: Sequence[Received]) -> None:
        """Give it records."""
        self._wire.send(("handle", batch))

    async def go_on(self) -> None:
        """Let it go on from where it stopped, with the lease of whatever it held behind it."""
        while self._loop.time() < self._stopped_at + self._orders.lease_s:
            await asyncio.sleep(0.01)
        os.kill(self._pid, signal.SIGCONT)

    async def finish(self) -> None:
        """Let it come to the end of all its work by itself, tell all of it, and exit."""
        self._wire.send(("finish", None))
        assert (code := await self.ended()) == 0, code

    async def ended(self) -> int | None:
        """Return its exit code when it has ended, or the signal that ended it, as a negative."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._silent.wait()
        await asyncio.to_thread(self._process.join, TIMEOUT_S)
        return self._process.exitcode

    async def met_end(self) -> None:
        """Return when its own signal has ended it, or has stopped it."""
        if self._orders.end is signal.SIGKILL:
            assert await self.ended() == -signal.SIGKILL
            return
        async with asyncio.timeout(TIMEOUT_S):
            while _state(self._pid) != "T":
                await asyncio.sleep(0.005)
        self._stopped_at = self._loop.time()

    async def close(self) -> None:
        """Leave nothing of it behind, whatever the test has made of it."""
        self._process.kill()
        await self.ended()
        self._wire.close()

    @property
    def _pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def _hear(self) -> None:
        try:
            said = self._wire.recv()
        except (EOFError, ConnectionError):
            self._loop.remove_reader(self._wire.fileno())
            self._silent.set()
            return
        if isinstance(said, StatusChanged):
            self._users.records.append(said)
        else:
            self.port.set_result(said)


class Stage:
    """A provider, a process that meets its end at a point, and the one that succeeds it."""

    def __init__(
        self, bench: Bench, channel: str, world: Any, first: Process, second: Process
    ) -> None:
        self.bench, self.channel, self.world = bench, channel, world
        self.first, self.second = first, second
        self._heard = 0

    async def kept(self) -> list[str]:
        """Return the texts that the provider kept, in its order."""
        return [one["text"] for one in await self.world.receipts() if one["kept"]]

    async def hear(self) -> None:
        """Let the successor hear the webhooks that came since, as the gateway passes them on."""
        hooks, self._heard = self.world.webhooks[self._heard :], len(self.world.webhooks)
        url = f"http://{HOST}:{await self.second.port}/webhooks/{SIDES[self.channel].account}"
        for hook in hooks:
            raw, signature = hook[-2:]
            headers = {
                "Authorization": f"Bearer {INTERNAL_TOKEN}",
                "Content-Type": "application/json",
                "X-Hub-Signature-256": signature,
            }
            async with self.world.session.post(url, data=raw, headers=headers) as answer:
                assert answer.ok, await answer.text()

    async def hear_something(self) -> None:
        """Wait for the first webhooks, and let the successor hear them."""
        async with asyncio.timeout(TIMEOUT_S):
            while not self._heard:
                await self.hear()
                await asyncio.sleep(0.01)

    async def until(self, met: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a condition that time passing and webhooks may bring about."""
        async with asyncio.timeout(TIMEOUT_S):
            while not await met():
                await self.hear()
                await asyncio.sleep(0.01)


@asynccontextmanager
async def stage(
    bench: Bench,
    folder: Path,
    postgres: dict[str, str],
    channel: str,
    *,
    retry_bound_s: float = CLAIM_BOUND_S,
    **end: Any,
) -> AsyncIterator[Stage]:
    """Run a provider and two processes; the first is to meet its end as ordered."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(SIDES[channel].module.simulator(folder))
        edge_url = await stack.enter_async_context(edge(world.url))
        made = []
        for name, url, orders in (("first", edge_url, end), ("second", world.url, {})):
            process = Process(
                Orders(
                    channel=channel,
                    ledger_channel=bench.channel,
                    config=_config(channel, name, url) | postgres,
                    log=folder / f"{name}.log",
                    retry_bound_s=retry_bound_s,
                    **orders,
                ),
                bench.users,
            )
            stack.push_async_callback(process.close)
            made.append(process)
        yield Stage(bench, channel, world, *made)


@asynccontextmanager
async def edge(url: str) -> AsyncIterator[str]:
    """Lend a way to a provider that passes on what came, also when its sender is dead by then."""
    parts = urlsplit(url)
    writers: list[asyncio.StreamWriter] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(parts.hostname, parts.port)
        writers.extend((writer, far_writer))
        await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))

    server = await asyncio.start_server(carry, HOST, 0)
    async with server:
        try:
            yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        finally:
            for writer in writers:
                writer.close()


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


def _config(channel: str, name: str, url: str) -> dict[str, Any]:
    return {
        "service_name": f"connector-{channel}",
        "instance_id": name,
        "http_host": HOST,
        "http_port": 1,
        "consul_http_addr": f"{HOST}:1",
        "internal_token": INTERNAL_TOKEN,
        "channel": channel,
        "provider_url": url,
        "quota_profile": "high-quota",
        "unknown_deadline_s": UNKNOWN_DEADLINE_S,
        "accounts": msgspec.to_builtins(SIDES[channel].accounts),
    }


def _state(pid: int) -> str:
    """Return what the operating system says of a process: T when it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
