"""A connector as a process of the operating system, which sends itself a signal at a named point.

It is the product's own wiring, with PostgreSQL and HTTP as they are. Only Kafka is played by the
test: assignments and records come over a pipe, offsets never move, and what is published counts as
acknowledged once the kernel has it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from uuid import UUID

import aiohttp
import msgspec
import uvloop
from aiohttp import web

from services.connectors import app as wiring
from services.connectors import housekeeping, http, lanes, registry, reporter, worker
from services.connectors.base import Connector, Delivery, Http, Outcome
from services.connectors.lanes import Lanes
from services.connectors.ledger import CLAIM_BOUND_S, Ledger
from services.connectors.outcomes import Outcomes
from services.connectors.rows import Claim, Key, Report, Row, Settled
from services.runtime.app import App
from services.runtime.consul import Consul
from services.runtime.discovery import Discovery
from services.runtime.http import wire
from services.runtime.kafka.consumer import Handle
from services.runtime.kafka.producer import Outgoing
from services.runtime.telemetry.log import configure

HOST = "127.0.0.1"
HOUSEKEEPING_EVERY_S = 0.1
REPORTS_PACE_S = 0.02
READY_POLL_S = 0.01


class Orders(NamedTuple):
    """What a process is told at its start.

    `channel` is the folder, `ledger_channel` the name under which the ledger keeps its rows. At
    the point `at` it sends itself the signal `end`; without one it meets none. `takes_over` says
    that it has to look at a lane before it begins with what comes, as after a takeover.
    """

    channel: str
    ledger_channel: str
    config: dict[str, Any]
    log: Path
    at: str = ""
    end: signal.Signals = signal.SIGKILL
    lease_s: float = http.LEASE_S
    retry_bound_s: float = CLAIM_BOUND_S
    takes_over: bool = True


class Point:
    """Where the process sends itself its signal, the first time that it gets there."""

    def __init__(self) -> None:
        self.at = ""
        self.end = signal.SIGKILL

    def reach(self, name: str) -> None:
        """Be somewhere; if that is the point, what follows happens after a SIGCONT or never."""
        if name == self.at:
            self.at = ""
            os.kill(os.getpid(), self.end)


point = Point()


class StoppingLedger(Ledger):
    """The ledger, with a point on each side of a claim."""

    async def claim(self, row: Row, epoch: int, attempt_id: UUID) -> bool:
        """Claim a row."""
        point.reach("before claim")
        won = await super().claim(row, epoch, attempt_id)
        point.reach("claimed")
        return won

    async def take_in(
        self, new: Sequence[Row], claims: Mapping[Key, Claim] = MappingProxyType({})
    ) -> dict[Key, UUID | None]:
        """Store rows; those that are claimed by it meet the points of a claim."""
        if claims:
            point.reach("before claim")
        fresh = await super().take_in(new, claims)
        if claims:
            point.reach("claimed")
        return fresh


class StoppingTransport:
    """A connection whose requests go to the kernel byte by byte as the points have it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Hand over a request, which comes in one piece, in two halves."""
        point.reach("lease checked")
        middle = len(data) // 2
        self._hand_over(data[:middle])
        point.reach("half written")
        self._hand_over(data[middle:])
        point.reach("written")

    def _hand_over(self, data: bytes) -> None:
        taken = os.write(self._transport.get_extra_info("socket").fileno(), data)
        if taken != len(data):
            raise BlockingIOError(f"The kernel took {taken} of {len(data)} bytes.")


class StoppingWire(wire.Wire):
    """The way to the provider, with points around the look at the lease."""

    def _write(self, protocol: Any, request: bytes, before_write: Callable[[], None]) -> None:
        """Write a request; one without a lease is a check of credentials and meets no point."""
        lease = http.current.get()
        if lease is not None and lease.ends_at < float("inf"):
            point.reach("connected")
            if not isinstance(protocol.transport, StoppingTransport):
                protocol.transport = StoppingTransport(protocol.transport)
        super()._write(protocol, request, before_write)


class StoppingHttp(http.ProviderHttp):
    """A provider's API over that way."""

    def __init__(self, url: str, discovery: Discovery, *, timeout_s: float) -> None:
        super().__init__(url, discovery, timeout_s=timeout_s)
        self._wire = StoppingWire(
            self._connector, decompress=True, connect_timeout_s=http.CONNECT_TIMEOUT_S
        )


class StoppingOutcomes(Outcomes):
    """The results, with points after they are stored, and when they are told."""

    async def accepted(self, row: Row, attempt_id: UUID, provider_id: str) -> Settled:
        """Store that the provider took a message."""
        settled = await super().accepted(row, attempt_id, provider_id)
        point.reach("result stored")
        return settled

    async def mark_reported(self, reports: Sequence[Report]) -> None:
        """Store that reports are published."""
        point.reach("told")
        await super().mark_reported(reports)
        point.reach("offset not committed")


class Wire:
    """The pipe to the test."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self.heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(connection.fileno(), self._hear)

    def say(self, thing: object) -> None:
        """Return when the kernel has it."""
        self._connection.send(thing)

    def _hear(self) -> None:
        try:
            self.heard.put_nowait(self._connection.recv())
        except EOFError:
            # The test is gone: nobody else would end this process.
            os._exit(os.EX_IOERR)


class Told:
    """Stands for the producer: what is published goes to the test."""

    def __init__(self, wire: Wire, _app: object, _topics: object) -> None:
        self._wire = wire

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish records."""
        for one in outgoing:
            self._wire.say(one.record)


class Given:
    """Stands for the consumer: the test assigns partitions, hands out batches and says the end."""

    def __init__(
        self,
        wire: Wire,
        app: App[Any],
        _producer: object,
        *,
        group: str,  # noqa: ARG002
        topic: str,  # noqa: ARG002
        handle: Handle,
        assignments: Lanes,
        after: Sequence[asyncio.Event],
    ) -> None:
        self._wire = wire
        self._app = app
        self._handle = handle
        self._lanes = assignments
        app.spawn("given", self._consume(after))

    async def _consume(self, after: Sequence[asyncio.Event]) -> None:
        for event in after:
            await event.wait()
        while True:
            word, value = await self._wire.heard.get()
            if word == "own":
                self._lanes.assigned(value)
            elif word == "handle":
                await self._handle(value)
            else:
                await self._finish()

    async def _finish(self) -> None:
        """Stop when every lane has come to its end by itself, and all of it is told."""
        while self._lanes._tasks:
            await asyncio.wait(self._lanes._tasks)
        await self._lanes.drain()
        self._app.stopping.set()


def live(orders: Orders, connection: "Connection[Any, Any]") -> None:
    """Be a connector until the point, or until the test says the end; exit 0 if all went well."""
    with orders.log.open("w") as log:
        sys.stdout = log
        configure(f"connector-{orders.channel}", orders.config["instance_id"])
        sys.exit(uvloop.run(_live(orders, connection)))


async def _live(orders: Orders, connection: "Connection[Any, Any]") -> int:
    channel, wire = registry.load(orders.channel), Wire(connection)
    _prepare(orders, wire)

    def create(config: Any, over: Http) -> Connector:
        connector = channel.create(config, over)
        connector.name = orders.ledger_channel
        _stop_when_answered(connector)
        return connector

    config = msgspec.convert(orders.config, channel.config)
    async with aiohttp.ClientSession() as session:
        app = App(config, session, Consul(config.consul_http_addr, session))
        wiring.build(app, create)
        runner = web.AppRunner(app.http)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        # As with Consul: nobody is led to a process before everything that it needs answers.
        while await app.health.down():
            await asyncio.sleep(READY_POLL_S)
        wire.say(runner.addresses[0][1])
        await app.stopping.wait()
    return 1 if app.failed else 0


def _prepare(orders: Orders, wire: Wire) -> None:
    """Put the points and the pipe into the product's wiring, and shorten its times."""
    point.at, point.end = orders.at, orders.end
    parts = cast("Any", wiring)
    parts.Ledger, parts.Outcomes = StoppingLedger, StoppingOutcomes
    parts.Producer, parts.Consumer = partial(Told, wire), partial(Given, wire)
    parts.ProviderHttp = StoppingHttp
    http.LEASE_S = orders.lease_s
    cast("Any", worker).CLAIM_BOUND_S = orders.retry_bound_s
    if not orders.takes_over:
        cast("Any", lanes).CLAIM_BOUND_S = 0.0
    housekeeping.EVERY_S = HOUSEKEEPING_EVERY_S
    reporter.PACE_S = REPORTS_PACE_S


def _stop_when_answered(connector: Connector) -> None:
    send = connector.send

    async def answered(delivery: Delivery) -> Outcome:
        outcome = await send(delivery)
        point.reach("answer read")
        return outcome

    cast("Any", connector).send = answered
