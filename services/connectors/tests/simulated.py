"""A simulated provider of any channel for a test, and the address where its webhooks arrive."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.connectors.simulator import SimulatorConfig
from services.runtime.app import App
from services.runtime.consul import Consul

Body = dict[str, Any]
AGENT = "127.0.0.1:1"
"""Where no Consul is."""


@dataclass
class Simulated(ABC):
    """A simulator, under its own address and its control API; a channel's adds what came."""

    session: aiohttp.ClientSession
    app: App[Any] = field(init=False)
    url: str = ""
    hook: str = ""
    """Where its webhooks go, without the account."""
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def control(self, method: str, path: str, body: Body | None = None) -> Any:
        """Ask the control API; anything but success fails the test."""
        async with self.session.request(method, f"{self.url}/_sim/{path}", json=body) as answer:
            assert answer.ok, await answer.text()
            return await answer.json() if answer.status != 204 else None

    async def receipts(self) -> list[Any]:
        """Return every receipt."""
        page = await self.control("GET", "receipts")
        return list(page["items"])

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait until something holds after a webhook came."""
        async with asyncio.timeout(5), self.came:
            await self.came.wait_for(met)

    async def take(self, request: web.Request) -> web.Response:
        """Take a webhook, and wake those who wait for one."""
        answer = await self.keep(request)
        async with self.came:
            self.came.notify_all()
        return answer

    @abstractmethod
    async def keep(self, request: web.Request) -> web.Response:
        """Keep a webhook and answer it."""

    async def verify(self, request: web.Request) -> web.Response:
        """Answer the challenge; a provider that sends one has a test of its own to answer it."""
        raise web.HTTPNotFound(reason=f"no challenge is expected at {request.path}")


S = TypeVar("S", bound=Simulated)


@asynccontextmanager
async def running(
    kind: type[S],
    config: Callable[..., SimulatorConfig],
    build: Callable[[App[Any]], None],
    folder: Path,
    **options: Any,
) -> AsyncIterator[S]:
    """Run a simulator and the addresses of its webhooks on free ports."""
    async with aiohttp.ClientSession() as session:
        world = kind(session)
        address = web.Application()
        address.router.add_post("/hook/{account}", world.take)
        address.router.add_get("/hook/{account}", world.verify)
        async with TestServer(address) as hook:
            world.hook = str(hook.make_url("/hook"))
            told = {
                "service_name": "provider-of-a-test",
                "instance_id": "1",
                "http_host": "127.0.0.1",
                "http_port": 1,
                "consul_http_addr": AGENT,
                "internal_token": "internal-token-of-tests",
                "webhook_url": f"{world.hook}/{{account}}",
                "receipts_path": str(folder / "receipts.jsonl"),
            }
            world.app = App(config(**told | options), session, Consul(AGENT, session))
            build(world.app)
            try:
                async with TestServer(world.app.http) as server:
                    world.url = str(server.make_url("")).rstrip("/")
                    await world.control("PATCH", "settings", {"status_delay_s": 0.001})
                    yield world
            finally:
                await world.app.close()
