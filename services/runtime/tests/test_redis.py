"""Redis that comes and goes: nobody waits for it, and it is found again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.runtime.app import App
from services.runtime.health import Health
from services.runtime.redis import OPERATION_TIMEOUT_S, Redis
from services.runtime.unavailable import Unavailable


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Redis]:
    """Connect in the background to whatever is at an address."""
    tasks: list[asyncio.Task[None]] = []
    parts = SimpleNamespace(
        config=SimpleNamespace(redis_address=address),
        health=Health(),
        on_stop=lambda *_: None,
        spawn=lambda name, work: tasks.append(asyncio.create_task(work, name=name)),
    )
    redis = Redis(cast("App[Any]", parts))
    assert await parts.health.down() == {}
    yield redis
    assert not tasks[0].done()
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await redis._close()


class Relay:
    """Passes bytes on to a server, or keeps silent, or is away."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._to = int(port)
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.silent = False
        self.port = 0

    async def start(self) -> None:
        """Listen, where it listened before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Be away."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._to)
        self._writers += [writer, far_writer]
        await asyncio.gather(
            self._copy(reader, far_writer), self._copy(far_reader, writer), return_exceptions=True
        )

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self.silent:
                writer.write(data)


@asynccontextmanager
async def relay_to(address: str) -> AsyncIterator[Relay]:
    """Listen before a server."""
    relay = Relay(address)
    await relay.start()
    yield relay
    await relay.stop()


async def answers(redis: Redis) -> bool:
    """Tell whether a question is answered."""
    try:
        return int(await redis.evaluate("return tonumber(ARGV[1])", (), (7,))) == 7
    except Unavailable:
        return False


async def until_it_answers(redis: Redis) -> None:
    """Wait until Redis was found."""
    async with asyncio.timeout(5):
        while not await answers(redis):
            await asyncio.sleep(0.01)


async def test_nobody_waits_for_a_redis_that_was_never_there() -> None:
    """It is away at once, the process lives on, and readiness does not ask for it."""
    async with relay_to("127.0.0.1:1") as nowhere:
        address = f"127.0.0.1:{nowhere.port}"
    async with connected(address) as redis:
        for _ in range(100):
            with pytest.raises(Unavailable, match="redis is away: it was not reached"):
                await redis.evaluate("return 1", (), ())


@pytest.mark.connected
async def test_redis_is_found_again(redis_address: str) -> None:
    """What was refused while it was away is answered once it is back."""
    async with relay_to(redis_address) as relay, connected(f"127.0.0.1:{relay.port}") as redis:
        await until_it_answers(redis)
        await relay.stop()
        assert not await answers(redis)
        assert not await answers(redis)
        await relay.start()
        await until_it_answers(redis)


@pytest.mark.connected
async def test_a_silent_redis_is_waited_for_once(redis_address: str) -> None:
    """The first question runs into its deadline; those after it are refused without waiting."""
    clock = asyncio.get_running_loop().time
    async with relay_to(redis_address) as relay, connected(f"127.0.0.1:{relay.port}") as redis:
        await until_it_answers(redis)
        relay.silent = True
        asked_at = clock()
        assert not await answers(redis)
        assert clock() - asked_at >= OPERATION_TIMEOUT_S
        for _ in range(100):
            with pytest.raises(Unavailable, match="it was not reached"):
                await redis.evaluate("return 1", (), ())
        relay.silent = False
        await until_it_answers(redis)
