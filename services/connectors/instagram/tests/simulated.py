"""A simulated provider for a test, and the address where its webhooks arrive."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.connectors.instagram.simulator import InstagramSimulatorConfig, build
from services.connectors.instagram.simulator_nodes import Account
from services.runtime.app import App
from services.runtime.consul import Consul

CUSTOMER = "1234567890123456"
MAIN = Account(
    ig_id="17841400000000001",
    page_id="100000000000001",
    access_token="access-token-of-main",
    app_secrets=("first-app-secret-of-main", "second-app-secret-of-main"),
    verify_token="verify-token-of-main",
)
SECOND = Account(
    ig_id="17841400000000002",
    page_id="100000000000002",
    access_token="access-token-of-second",
    app_secrets=("app-secret-of-second",),
    verify_token="verify-token-of-second",
)
ACCOUNTS = {"main": MAIN, "second": SECOND}
Body = dict[str, Any]


def bearer(account: Account) -> dict[str, str]:
    """Return the header that an account's requests carry."""
    return {"Authorization": f"Bearer {account.access_token}"}


class Posted(NamedTuple):
    """A webhook that came."""

    account: str
    raw: bytes
    signature: str


@dataclass
class Clock:
    """A time that passes only when told to."""

    now: float

    def time(self) -> float:
        """Return the time, as the module of this name does."""
        return self.now


def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let the simulator ask a clock that stands still."""
    clock = Clock(1_700_000_000.0)
    monkeypatch.setattr("services.connectors.instagram.simulator.time", clock)
    return clock


@dataclass
class World:
    """A simulator, its accounts' webhook addresses, and what came there."""

    session: aiohttp.ClientSession
    app: App[InstagramSimulatorConfig] = field(init=False)
    url: str = ""
    webhooks: list[Posted] = field(default_factory=list)
    challenges: list[dict[str, str]] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def send(
        self, body: Body, account: Account = MAIN, node: str | None = None
    ) -> tuple[int, Any]:
        """Ask the provider's side and return the answer's status and JSON."""
        path = f"/v23.0/{node or account.ig_id}/messages"
        async with self.session.post(self.url + path, json=body, headers=bearer(account)) as answer:
            return answer.status, await answer.json()

    async def control(self, method: str, path: str, body: Body | None = None) -> Any:
        """Ask the control API; anything but success fails the test."""
        async with self.session.request(method, f"{self.url}/_sim/{path}", json=body) as answer:
            assert answer.ok, await answer.text()
            return await answer.json() if answer.status != 204 else None

    async def write(self, customer: str = CUSTOMER, account: str = "main", **more: Any) -> str:
        """Write as a customer and return the message's id."""
        body = {"from": customer, "text": "oi", "account": account, **more}
        return str((await self.control("POST", "messages", body))["id"])

    async def receipts(self) -> list[Any]:
        """Return every receipt."""
        page = await self.control("GET", "receipts")
        return list(page["items"])

    def items(self) -> list[Any]:
        """Return every item of every entry that came, in order."""
        entries = [entry for hook in self.webhooks for entry in json.loads(hook.raw)["entry"]]
        return [item for entry in entries for item in entry["messaging"]]

    def steps(self) -> list[str]:
        """Return the kinds of the items that came about messages that went out."""
        return [
            "read" if "read" in item else "echo"
            for item in self.items()
            if "read" in item or item["message"].get("is_echo")
        ]

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait until something holds after a webhook came."""
        async with asyncio.timeout(5), self.came:
            await self.came.wait_for(met)

    async def take(self, request: web.Request) -> web.Response:
        """Keep a webhook."""
        signature = request.headers["X-Hub-Signature-256"]
        account = request.match_info["account"]
        self.webhooks.append(Posted(account, await request.read(), signature))
        async with self.came:
            self.came.notify_all()
        return web.Response()

    async def verify(self, request: web.Request) -> web.Response:
        """Answer the challenge."""
        self.challenges.append(dict(request.query))
        return web.Response(text=request.query["hub.challenge"])


@asynccontextmanager
async def simulator(folder: Path, **options: Any) -> AsyncIterator[World]:
    """Run a simulator and the addresses of its webhooks on free ports."""
    async with aiohttp.ClientSession() as session:
        world = World(session)
        address = web.Application()
        address.router.add_post("/hook/{account}", world.take)
        address.router.add_get("/hook/{account}", world.verify)
        async with TestServer(address) as hook:
            config = InstagramSimulatorConfig(
                service_name="provider-instagram",
                instance_id="1",
                http_host="127.0.0.1",
                http_port=1,
                consul_http_addr="127.0.0.1:1",
                internal_token="internal-token-of-tests",
                accounts=ACCOUNTS,
                webhook_url=str(hook.make_url("/hook/")) + "{account}",
                receipts_path=str(folder / "receipts.jsonl"),
                **options,
            )
            app = App(config, session, Consul("127.0.0.1:1", session))
            world.app = app
            build(app)
            try:
                async with TestServer(app.http) as server:
                    world.url = str(server.make_url("")).rstrip("/")
                    await world.control("PATCH", "settings", {"status_delay_s": 0.001})
                    yield world
            finally:
                await app.close()


def text(content: str = "Olá, tudo bem?", /, **changes: Any) -> Body:
    """Return a message that is accepted, with changes; None leaves a key out."""
    body = {"recipient": {"id": CUSTOMER}, "message": {"text": content}} | changes
    return {key: value for key, value in body.items() if value is not None}


def to(customer: str) -> Body:
    """Return a message to another customer."""
    return text(recipient={"id": customer})
