"""A simulated provider for a test, and the address where its webhooks arrive."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.connectors.whatsapp.simulator import WhatsAppSimulatorConfig, build
from services.connectors.whatsapp.simulator_nodes import Account
from services.runtime.app import App
from services.runtime.consul import Consul

NUMBER = "100000000000001"
CUSTOMER = "5511987654321"
SHOP = Account(
    phone_number_id=NUMBER,
    waba_id="200000000000002",
    display_phone_number="15550001111",
    access_token="access-token-of-the-shop",
    app_secret="app-secret-of-the-shop",
    verify_token="verify-token-of-the-shop",
)
BEARER = {"Authorization": f"Bearer {SHOP.access_token}"}
Body = dict[str, Any]


@dataclass
class World:
    """A simulator, its accounts' webhook address, and what came there."""

    session: aiohttp.ClientSession
    url: str = ""
    webhooks: list[tuple[bytes, str]] = field(default_factory=list)
    challenges: list[dict[str, str]] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def send(self, body: Body, **kwargs: Any) -> tuple[int, Any]:
        """Ask the provider's side and return the answer's status and JSON."""
        version = kwargs.pop("version", "v23.0")
        async with self.session.post(
            f"{self.url}/{version}/{NUMBER}/messages", json=body, headers=BEARER, **kwargs
        ) as answer:
            return answer.status, await answer.json()

    async def control(self, method: str, path: str, body: Body | None = None) -> Any:
        """Ask the control API; anything but success fails the test."""
        async with self.session.request(method, f"{self.url}/_sim/{path}", json=body) as answer:
            assert answer.ok, await answer.text()
            return await answer.json() if answer.status != 204 else None

    async def receipts(self) -> list[Any]:
        """Return every receipt."""
        page = await self.control("GET", "receipts")
        return list(page["items"])

    def values(self) -> list[Any]:
        """Return every value of every change of every entry that came."""
        bodies = [json.loads(raw) for raw, _ in self.webhooks]
        entries = [entry for body in bodies for entry in body["entry"]]
        return [change["value"] for entry in entries for change in entry["changes"]]

    def statuses(self) -> list[Any]:
        """Return every status that came, in order."""
        return [status for value in self.values() for status in value.get("statuses", [])]

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait until something holds after a webhook came."""
        async with asyncio.timeout(5), self.came:
            await self.came.wait_for(met)

    async def take(self, request: web.Request) -> web.Response:
        """Keep a webhook."""
        self.webhooks.append((await request.read(), request.headers["X-Hub-Signature-256"]))
        async with self.came:
            self.came.notify_all()
        return web.Response()

    async def verify(self, request: web.Request) -> web.Response:
        """Answer the challenge."""
        self.challenges.append(dict(request.query))
        return web.Response(text=request.query["hub.challenge"])


@asynccontextmanager
async def simulator(folder: Path, **options: Any) -> AsyncIterator[World]:
    """Run a simulator and the address of its webhooks on free ports."""
    async with aiohttp.ClientSession() as session:
        world = World(session)
        address = web.Application()
        address.router.add_post("/hook/shop", world.take)
        address.router.add_get("/hook/shop", world.verify)
        async with TestServer(address) as hook:
            config = WhatsAppSimulatorConfig(
                service_name="provider-whatsapp",
                instance_id="1",
                http_host="127.0.0.1",
                http_port=1,
                consul_http_addr="127.0.0.1:1",
                internal_token="internal-token-of-tests",
                accounts={"shop": SHOP},
                webhook_url=str(hook.make_url("/hook/")) + "{account}",
                receipts_path=str(folder / "receipts.jsonl"),
                **options,
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


def text(**changes: Any) -> Body:
    """Return a message that is accepted, with changes; None leaves a key out."""
    body = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": CUSTOMER,
        "type": "text",
        "text": {"body": "Olá, tudo bem?", "preview_url": False},
    }
    return {key: value for key, value in (body | changes).items() if value is not None}
