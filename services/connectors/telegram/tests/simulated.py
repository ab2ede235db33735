"""A simulated provider for a test, and the address where its webhooks arrive."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from services.connectors.telegram.simulator import TelegramSimulatorConfig, build
from services.connectors.telegram.simulator_nodes import Account
from services.connectors.tests.simulated import Body, Simulated, running

CHAT = 5511987654321
OTHER_CHAT = 5511900000000
MAIN = Account(bot_token="1234567:token-of-the-main-bot", secret_token="secret-of-the-main-bot")
SECOND = Account(bot_token="7654321:token-of-the-second-bot", secret_token="secret-of-the-second")
ACCOUNTS = {"main": MAIN, "second": SECOND}


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
class World(Simulated):
    """A simulator, its accounts' webhook address, what came there and how that was answered."""

    webhooks: list[Came] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)

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

    async def write(self, text: str, chat: int = CHAT, **more: Any) -> str:
        """Write as a customer and return the message's name."""
        body = {"from": str(chat), "text": text, "account": "main", **more}
        return str((await self.control("POST", "messages", body))["id"])

    async def keep(self, request: web.Request) -> web.Response:
        """Keep a webhook and answer it as the test wants, then with 200."""
        secret = request.headers.get("X-Telegram-Bot-Api-Secret-Token")
        at = asyncio.get_running_loop().time()
        account = request.match_info["account"]
        self.webhooks.append(Came(account, secret, await request.read(), at))
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def simulator(folder: Path, **options: Any) -> AsyncIterator[World]:
    """Run a simulator of two accounts that repeats its webhooks soon."""
    soon = {"webhook_retry_first_s": 0.02, "webhook_retry_max_s": 0.05}
    given = {"accounts": ACCOUNTS, **soon, **options}
    async with running(World, TelegramSimulatorConfig, build, folder, **given) as world:
        yield world
