"""A process with lifelines and the peers around it, as tests of lifelines play them."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from services.runtime.config import Config
from services.runtime.consul import Consul
from services.runtime.discovery import Discovery
from services.runtime.health import Health
from services.runtime.kafka.hello import Hello, Membership
from services.runtime.kafka.lifeline import Lifelines

WAIT_TIMEOUT_S = 5.0
NEVER_S = 0.2
"""Longer than a few hellos, and than it takes to give an answer up."""
GROUP = "group"
HOST = "127.0.0.1"
PEERS = "/v1/health/service/worker-lifeline"
SWITCH = "/v1/kv/chat4all/config/common/eviction"
VICTIM = Membership(GROUP, "worker-victim-b1", "member-1", joining=False)
Address = tuple[str, int]


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds; fail when it takes too long."""
    async with asyncio.timeout(WAIT_TIMEOUT_S):
        while not holds():
            await asyncio.sleep(0.005)


async def never(holds: Callable[[], object]) -> None:
    """Fail when something holds within the time in which it would."""
    with suppress(TimeoutError):
        async with asyncio.timeout(NEVER_S):
            while True:
                assert not holds()
                await asyncio.sleep(0.005)


class Watched(Consul):
    """Consul's watched answers, as a test gives them."""

    def __init__(self) -> None:
        self.answers: defaultdict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Any]:
        """Yield what the test puts."""
        assert query is not None
        while True:
            yield await self.answers[path].get()

    def list(self, *peers: tuple[Address, str]) -> None:
        """Name the registered instances and the state of their checks."""
        entries = [
            {
                "Node": {"Address": HOST},
                "Service": {"Address": host, "Port": port},
                "Checks": [{"Status": status}],
            }
            for (host, port), status in peers
        ]
        self.answers[PEERS].put_nowait(entries)


class Recorder:
    """A membership that keeps what it was asked to do."""

    def __init__(self, group: str = GROUP) -> None:
        self.group = group
        self.membership: Membership | None = Membership(group, "c", "own", joining=False)
        self.evicted: list[Membership] = []
        self.hastened = 0
        self.expecting = False

    async def evict(self, lost: Membership, peer: str, seen_at: float) -> None:
        """Note it."""
        assert peer == "victim"
        assert seen_at > 0
        self.evicted.append(lost)

    async def hasten(self, *, expected: bool) -> None:
        """Note it."""
        self.hastened += 1
        self.expecting = expected


class Process:
    """The process under test."""

    def __init__(self) -> None:
        self.consul, self.health, self.member = Watched(), Health(), Recorder()
        self.tasks: set[asyncio.Task[None]] = set()
        config = Config(
            service_name="worker",
            instance_id="survivor",
            http_host=HOST,
            http_port=1,
            lifeline_port=0,
            consul_http_addr="127.0.0.1:1",
            internal_token="internal-token-of-tests",
        )
        discovery = Discovery(self.consul, self.spawn)
        self.lifelines = Lifelines(config, self.consul, discovery, self.health, self.spawn)
        self.lifelines.enter(self.member)

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Own a task."""
        self.tasks.add(asyncio.create_task(work, name=name))

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self.lifelines._own

    async def close(self) -> None:
        """End it; a task that failed fails the test."""
        await self.lifelines.close()
        for task in self.tasks:
            if not task.done():
                task.cancel()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError), result


class Peer:
    """Another process as the test plays it: it answers every connection with its hello."""

    def __init__(self, process: Process, boot: str = "b1") -> None:
        self.process, self.boot = process, boot
        self.memberships: tuple[Membership, ...] = (VICTIM,)
        self.secret = True
        self.silent = False
        self.answer: bytes | None = None
        self.address: Address = (HOST, 0)
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def hello(self) -> bytes:
        """What it says of itself."""
        hello = Hello("worker", "victim", self.boot, *self.address, memberships=self.memberships)
        proof = self.process.lifelines._proof(hello) if self.secret else "0" * 64
        return msgspec.json.encode(msgspec.structs.replace(hello, proof=proof)) + b"\n"

    async def listen(self) -> "Peer":
        """Accept connections, at the same address again after a stop."""
        self._server = await asyncio.start_server(self._accept, *self.address)
        self.address = self._server.sockets[0].getsockname()[:2]
        return self

    async def _accept(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.append(writer)
        if not self.silent:
            writer.write(self.hello if self.answer is None else self.answer)

    async def connected(self) -> "Peer":
        """Listen and be known to the process through Consul."""
        await self.listen()
        self.process.consul.list((self.address, "passing"))
        await until(lambda: self.process.lifelines.peers)
        return self

    def say(self) -> None:
        """Send its hello on all connections."""
        for writer in self._writers:
            writer.write(self.hello)

    def refuse(self) -> None:
        """Listen no more, keeping the connections there are."""
        assert self._server is not None
        self._server.close()

    def hang_up(self) -> None:
        """End all connections."""
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.close()

    def die(self) -> None:
        """Do what the kernel does to a killed process."""
        self.refuse()
        self.hang_up()
