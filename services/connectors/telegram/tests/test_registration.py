"""The connector before the simulated provider, over real HTTP."""

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from services.connectors.base import Accepted, Delivery, NotWritten, SendError, Unanswered, Verdict
from services.connectors.http import ProviderHttp
from services.connectors.telegram import config as settings
from services.connectors.telegram import simulator_deliveries
from services.connectors.telegram.connector import Telegram
from services.connectors.telegram.tests.simulated import ACCOUNTS, CHAT, MAIN, World, simulator
from services.connectors.tests.doubles import TOLD
from services.runtime.consul import Consul
from services.runtime.discovery import Discovery


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh simulator that nobody told where updates go."""
    async with simulator(tmp_path, webhook_url="") as made:
        yield made


@asynccontextmanager
async def connector(
    world: World, url: str, webhook_url: str | None = None, secret: str | None = None
) -> AsyncIterator[Telegram]:
    """Return a connector of the simulator's accounts, perhaps with another secret."""
    accounts = msgspec.convert(msgspec.to_builtins(ACCOUNTS), dict[str, settings.Account])
    if secret is not None:
        accounts["main"] = msgspec.structs.replace(accounts["main"], secret_token=secret)
    config = settings.Config(
        **TOLD,
        accounts=accounts,
        webhook_url=webhook_url,
    )
    discovery = Discovery(Consul("127.0.0.1:1", world.session), lambda _name, _work: None)
    http = ProviderHttp(url, discovery, timeout_s=5)
    try:
        yield Telegram(config, http)
    finally:
        await http.close()


async def checked(channel: Telegram) -> None:
    """Check the account until the provider, who is asked too often, has taken the webhook."""
    async with asyncio.timeout(5):
        while (error := await channel.check_credentials("main")) is not None:
            assert error.verdict is Verdict.THROTTLED
            await asyncio.sleep(0.1)


async def test_the_connector_asks_for_its_updates(world: World) -> None:
    """What a customer writes comes to the registered address, verifies and can be replied to."""
    async with connector(world, world.url, webhook_url=world.hook) as channel:
        await checked(channel)
        name = await world.write("oi")
        await world.until(lambda: bool(world.webhooks))
        (came,) = world.webhooks
        assert came.account == "main"
        headers = {"X-Telegram-Bot-Api-Secret-Token": came.secret or ""}
        assert channel.verify("main", came.raw, headers, {})
        assert not channel.verify("second", came.raw, headers, {})
        (found,) = channel.parse_webhook("main", came.raw) or []
        assert (found.provider_id, getattr(found, "content", None)) == (name, "oi")
        sent = await channel.send(
            Delivery(
                account="main",
                address=str(CHAT),
                content="Olá",
                reference="ours",
                reply_to_provider_id=name,
            )
        )
    (receipt,) = await world.receipts()
    assert sent == Accepted(receipt["provider_id"])
    assert f"{CHAT}:{receipt['reply_to']}" == name


async def test_a_new_secret_replaces_the_old_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After we refused the old secret the new one is told, and the update comes again with it."""
    monkeypatch.setattr(simulator_deliveries, "SET_INTERVAL_S", 0.1)
    async with connector(world, world.url, webhook_url=world.hook) as channel:
        await checked(channel)
    new = "another-secret-of-the-main-bot"
    async with connector(world, world.url, webhook_url=world.hook, secret=new) as channel:
        world.answers = [(401, {"Retry-After": "60"})]
        await world.write("oi")
        await world.until(lambda: bool(world.webhooks))
        async with asyncio.timeout(5):
            while "last_error_message" not in (await world.call("getWebhookInfo"))[1]["result"]:
                await asyncio.sleep(0.01)
        await checked(channel)
        await world.until(lambda: len(world.webhooks) == 2)
    assert [came.secret for came in world.webhooks] == [MAIN.secret_token, new]


async def test_a_wrong_token_is_an_accounts_error(world: World) -> None:
    """The provider refuses what it does not know, and the account is stopped."""
    await world.control("POST", "faults", {"kind": "token_expired", "account": "main"})
    async with connector(world, world.url) as channel:
        error = await channel.check_credentials("main")
        assert isinstance(error, SendError)
        assert error.verdict is Verdict.ACCOUNT
        assert await channel.check_credentials("second") is None


BROKEN = {
    "no answer": b"",
    "no HTTP": b"GARBAGE\r\n\r\n",
    "broken header": b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n",
    "broken length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_no_error_shows_the_token(world: World, answer: bytes) -> None:
    """Whatever goes wrong on the wire, neither message nor traceback holds the path."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connector(world, f"http://127.0.0.1:{port}") as channel:
        with pytest.raises((NotWritten, Unanswered)) as caught:
            await channel.check_credentials("main")
    told = str(caught.value) + "".join(traceback.format_exception(caught.value))
    assert MAIN.bot_token.partition(":")[2] not in told
    assert "/bot" not in str(caught.value)
