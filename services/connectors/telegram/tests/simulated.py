"""A simulated provider for a test, and the address where its webhooks arrive."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.connectors.telegram.simulator import TelegramSimulatorConfig, build
from services.connectors.telegram.simulator_nodes import Account
from services.runtime.app import App
from services.runtime.consul import Consul

CHAT = 5511987654321
OTHER_CHAT = 5511900000000
MAIN = Account(bot_token="1234567:token-of-the-main-bot", secret_token="secret-of-the-main-bot")
SECOND = Account(bot_token="7654321:token-of-the-second-bot", secret_token="secret-of-the-second")
ACCOUNTS = {"main": MAIN, "second": SECOND}
Body = dict[str, Any]


class Came(NamedTuple):
    """A webhook as it came, and when (loop time)."""

    account: str
    secret: str | None
    raw: bytes
    at: float

    @property
    def update(self) -> Any:
        """Its JSON."""
        return json.loads(self.raw)

    @property
    def text(self) -> str:
        """The text of its message."""
        return str(self.update["message"]["text"])


@dataclass
class World:
    """A simulator, its accounts' webhook address, what came there and how that was answered."""

    session: aiohttp.ClientSession
    url: str = ""
    hook: str = ""
    webhooks: list[Came] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def call(
        self, method: str, body: Body | None = None, token: str = MAIN.bot_token
    ) -> tuple[int, Any]:
        """Call a method and return the answer's status and JSON."""
        url = f"{self.url}/bot{token}/{method}"
        async with self.session.post(url, json=body or {}) as answer:
            return answer.status, await answer.json()

    async def send(self, **changes: Any) -> tuple[int, Any]:
        """Send a text that is accepted, with changes; None leaves an argument out."""
        body = {"chat_id": CHAT, "text": "Olá, tudo bem?"} | changes
        return await self.call(
            "sendMessage", {key: value for key, value in body.items() if value is not None}
        )

    async def control(self, method: str, path: str, body: Body | None = None) -> Any:
        """Ask the control API; anything but success fails the test."""
        async with self.session.request(method, f"{self.url}/_sim/{path}", json=body) as answer:
            assert answer.ok, await answer.text()
            return await answer.json() if answer.status != 204 else None

    async def write(self, text: str, chat: int = CHAT, **more: Any) -> str:
        """Write as a customer and return the message's name."""
        body = {"from": str(chat), "text": text, "account": "main", **more}
        return str((await self.control("POST", "messages", body))["id"])

    async def receipts(self) -> list[Any]:
        """Return every receipt."""
        page = await self.control("GET", "receipts")
        return list(page["items"])

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait until something holds after a webhook came."""
        async with asyncio.timeout(5), self.came:
            await self.came.wait_for(met)

    async def take(self, request: web.Request) -> web.Response:
        """Keep a webhook and answer it as the test wants, then with 200."""
        secret = request.headers.get("X-Telegram-Bot-Api-Secret-Token")
        at = asyncio.get_running_loop().time()
        account = request.match_info["account"]
        self.webhooks.append(Came(account, secret, await request.read(), at))
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        async with self.came:
            self.came.notify_all()
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def simulator(folder: Path, **options: Any) -> AsyncIterator[World]:
    """Run a simulator and the address of its webhooks on free ports."""
    async with aiohttp.ClientSession() as session:
        world = World(session)
        address = web.Application()
        address.router.add_post("/hook/{account}", world.take)
        async with TestServer(address) as hook:
            world.hook = str(hook.make_url("/hook"))
            config = TelegramSimulatorConfig(
                **{
                    "service_name": "provider-telegram",
                    "instance_id": "1",
                    "http_host": "127.0.0.1",
                    "http_port": 1,
                    "consul_http_addr": "127.0.0.1:1",
                    "internal_token": "internal-token-of-tests",
                    "accounts": ACCOUNTS,
                    "webhook_url": f"{world.hook}/{{account}}",
                    "webhook_retry_first_s": 0.02,
                    "webhook_retry_max_s": 0.05,
                    "receipts_path": str(folder / "receipts.jsonl"),
                    **options,
                }
            )
            app = App(config, session, Consul("127.0.0.1:1", session))
            build(app)
            try:
                async with TestServer(app.http) as server:
                    world.url = str(server.make_url("")).rstrip("/")
                    await world.control("PATCH", "settings", {"status_delay_s": 0.001})
                    yield world
            finally:
                await app.close()
