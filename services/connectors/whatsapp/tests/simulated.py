"""A simulated provider for a test, and the address where its webhooks arrive."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from services.connectors.tests.simulated import Body, Simulated, running
from services.connectors.whatsapp.simulator import WhatsAppSimulatorConfig, build
from services.connectors.whatsapp.simulator_nodes import Account

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


@dataclass
class World(Simulated):
    """A simulator, its accounts' webhook address, and what came there."""

    webhooks: list[tuple[bytes, str]] = field(default_factory=list)
    challenges: list[dict[str, str]] = field(default_factory=list)

    async def send(self, body: Body, **kwargs: Any) -> tuple[int, Any]:
        """Ask the provider's side and return the answer's status and JSON."""
        version = kwargs.pop("version", "v23.0")
        async with self.session.post(
            f"{self.url}/{version}/{NUMBER}/messages", json=body, headers=BEARER, **kwargs
        ) as answer:
            return answer.status, await answer.json()

    def values(self) -> list[Any]:
        """Return every value of every change of every entry that came."""
        bodies = [json.loads(raw) for raw, _ in self.webhooks]
        entries = [entry for body in bodies for entry in body["entry"]]
        return [change["value"] for entry in entries for change in entry["changes"]]

    def statuses(self) -> list[Any]:
        """Return every status that came, in order."""
        return [status for value in self.values() for status in value.get("statuses", [])]

    async def keep(self, request: web.Request) -> web.Response:
        """Keep a webhook."""
        self.webhooks.append((await request.read(), request.headers["X-Hub-Signature-256"]))
        return web.Response()

    async def verify(self, request: web.Request) -> web.Response:
        """Answer the challenge."""
        self.challenges.append(dict(request.query))
        return web.Response(text=request.query["hub.challenge"])


@asynccontextmanager
async def simulator(folder: Path, **options: Any) -> AsyncIterator[World]:
    """Run a simulator of one account."""
    given = {"accounts": {"shop": SHOP}, **options}
    async with running(World, WhatsAppSimulatorConfig, build, folder, **given) as world:
        yield world


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
