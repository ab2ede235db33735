"""A simulated provider for a test, and the address where its webhooks arrive."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from services.connectors.instagram.simulator import InstagramSimulatorConfig, build
from services.connectors.instagram.simulator_nodes import Account
from services.connectors.tests.simulated import Body, Simulated, running

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
class World(Simulated):
    """A simulator, its accounts' webhook addresses, and what came there."""

    webhooks: list[Posted] = field(default_factory=list)
    challenges: list[dict[str, str]] = field(default_factory=list)

    async def send(
        self, body: Body, account: Account = MAIN, node: str | None = None
    ) -> tuple[int, Any]:
        """Ask the provider's side and return the answer's status and JSON."""
        path = f"/v23.0/{node or account.ig_id}/messages"
        async with self.session.post(self.url + path, json=body, headers=bearer(account)) as answer:
            return answer.status, await answer.json()

    async def write(self, customer: str = CUSTOMER, account: str = "main", **more: Any) -> str:
        """Write as a customer and return the message's id."""
        body = {"from": customer, "text": "oi", "account": account, **more}
        return str((await self.control("POST", "messages", body))["id"])

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

    async def keep(self, request: web.Request) -> web.Response:
        """Keep a webhook."""
        signature = request.headers["X-Hub-Signature-256"]
        account = request.match_info["account"]
        self.webhooks.append(Posted(account, await request.read(), signature))
        return web.Response()

    async def verify(self, request: web.Request) -> web.Response:
        """Answer the challenge."""
        self.challenges.append(dict(request.query))
        return web.Response(text=request.query["hub.challenge"])


@asynccontextmanager
async def simulator(folder: Path, **options: Any) -> AsyncIterator[World]:
    """Run a simulator of two accounts."""
    given = {"accounts": ACCOUNTS, **options}
    async with running(World, InstagramSimulatorConfig, build, folder, **given) as world:
        yield world


def text(content: str = "Olá, tudo bem?", /, **changes: Any) -> Body:
    """Return a message that is accepted, with changes; None leaves a key out."""
    body = {"recipient": {"id": CUSTOMER}, "message": {"text": content}} | changes
    return {key: value for key, value in body.items() if value is not None}


def to(customer: str) -> Body:
    """Return a message to another customer."""
    return text(recipient={"id": customer})
