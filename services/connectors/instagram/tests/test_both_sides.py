"""The connector and the simulator, two readings of one wire, understand each other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

from services.connectors.base import (
    Accepted,
    Delivery,
    Echo,
    InboundMessage,
    SendError,
    StatusUpdate,
    Unanswered,
    Update,
    Verdict,
)
from services.connectors.http import ProviderHttp
from services.connectors.instagram.config import Account, Config
from services.connectors.instagram.connector import Instagram, create
from services.connectors.instagram.tests.simulated import ACCOUNTS, CUSTOMER, World, simulator
from services.contracts.status import Status

LOGINS = ("instagram", "facebook")


@asynccontextmanager
async def sides(folder: Path, login: str = "instagram") -> AsyncIterator[tuple[Instagram, World]]:
    """Run both sides with the same accounts."""
    async with simulator(folder, login=login) as world:
        config = Config(
            service_name="connector-instagram",
            instance_id="1",
            http_host="127.0.0.1",
            http_port=1,
            consul_http_addr="127.0.0.1:1",
            internal_token="internal-token-of-tests",
            channel="instagram",
            provider_url=world.url,
            accounts=msgspec.convert(msgspec.to_builtins(ACCOUNTS), dict[str, Account]),
            login=login,
        )
        http = ProviderHttp(world.url, world.app.discovery, timeout_s=5)
        try:
            yield create(config, http), world
        finally:
            await http.close()


def delivery(content: str, account: str = "main", reply_to: str | None = None) -> Delivery:
    """Return a text on its way to the customer."""
    return Delivery(
        account=account,
        address=CUSTOMER,
        content=content,
        reference="not sent",
        reply_to_provider_id=reply_to,
    )


def heard(channel: Instagram, world: World) -> list[Update]:
    """Return what the connector reads out of every webhook that came, each of them verified."""
    found: list[Update] = []
    for hook in world.webhooks:
        headers = CIMultiDict({"X-Hub-Signature-256": hook.signature})
        assert channel.verify(hook.account, hook.raw, headers, {})
        found += channel.parse_webhook(hook.account, hook.raw) or []
    return found


@pytest.mark.parametrize("login", LOGINS)
async def test_a_message_goes_out_and_its_evidence_comes_back(tmp_path: Path, login: str) -> None:
    """What is accepted is echoed and read under the same name, with the same text."""
    async with sides(tmp_path, login) as (channel, world):
        for account in channel.accounts:
            assert await channel.check_credentials(account) is None
        content = 'Olá 👋\n"é" </b>'
        accepted = await channel.send(delivery(content, reply_to="aWdf.before"))
        assert isinstance(accepted, Accepted)
        await world.until(lambda: len(world.items()) == 2)
        echo, read = heard(channel, world)
        assert isinstance(echo, Echo)
        assert (echo.provider_id, echo.address) == (accepted.provider_id, CUSTOMER)
        assert echo.content == content
        assert isinstance(read, StatusUpdate)
        assert (read.provider_id, read.status) == (accepted.provider_id, Status.READ)
        (receipt,) = await world.receipts()
        assert (receipt["text"], receipt["context"]) == (content, "aWdf.before")


@pytest.mark.parametrize("signed_by", ["first", "last"])
async def test_a_customers_message_comes_in(tmp_path: Path, signed_by: str) -> None:
    """It is read for its account with its text and its reply, whichever secret signed it."""
    async with sides(tmp_path) as (channel, world):
        await world.control("PATCH", "settings", {"signed_by": signed_by})
        mid = await world.write(account="main", text="ação 🙂", reply_to="aWdf.x")
        await world.until(lambda: bool(world.webhooks))
        (found,) = heard(channel, world)
        assert isinstance(found, InboundMessage)
        assert (found.provider_id, found.address, found.content) == (mid, CUSTOMER, "ação 🙂")
        assert (found.reply_to_provider_id, found.raw) == ("aWdf.x", None)
        (hook,) = world.webhooks
        assert channel.parse_webhook("second", hook.raw) is None


async def test_what_fits_is_taken_and_what_does_not_is_final(tmp_path: Path) -> None:
    """Both sides measure a text alike."""
    async with sides(tmp_path) as (channel, _):
        for content in ("x" * 1000, "x" * 1001, "é" * 500, "é" * 501, "👋" * 250, "👋" * 251):
            outcome = await channel.send(delivery(content))
            assert isinstance(outcome, Accepted) == channel.fits(content)
            if isinstance(outcome, SendError):
                assert outcome.verdict is Verdict.FINAL


REFUSALS: dict[str, tuple[dict[str, Any], Verdict, str]] = {
    "throttle": ({"kind": "throttle", "retry_after_s": 3}, Verdict.THROTTLED, "613_2534040"),
    "error": ({"kind": "error"}, Verdict.AMBIGUOUS, "1"),
    "token": ({"kind": "token_expired"}, Verdict.ACCOUNT, "190_463"),
    "window": ({"kind": "error", "code": 10, "subcode": 2534022}, Verdict.FINAL, "10_2534022"),
    "ill": ({"kind": "error", "code": 2}, Verdict.RETRYABLE, "2"),
}


@pytest.mark.parametrize("status", ["documented", "seen"])
@pytest.mark.parametrize(("fault", "verdict", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_is_understood(
    tmp_path: Path, fault: dict[str, Any], verdict: Verdict, code: str, status: str
) -> None:
    """The verdict is the same whichever HTTP status comes with the code."""
    async with sides(tmp_path) as (channel, world):
        await world.control("PATCH", "settings", {"error_status": status})
        await world.control("POST", "faults", fault)
        outcome = await channel.send(delivery("oi"))
        assert isinstance(outcome, SendError)
        assert (outcome.verdict, outcome.code) == (verdict, f"provider_{code}")
        assert outcome.retry_after_s == (3 if verdict is Verdict.THROTTLED else None)


async def test_an_echo_shows_what_became_of_a_send_without_an_answer(tmp_path: Path) -> None:
    """The answer is lost, and the echo names the message that was kept."""
    async with sides(tmp_path) as (channel, world):
        await world.control("POST", "faults", {"kind": "answer_lost", "count": 1})
        with pytest.raises(Unanswered):
            await channel.send(delivery("lost"))
        await world.until(lambda: len(world.items()) == 2)
        (receipt,) = await world.receipts()
        echo = heard(channel, world)[0]
        assert isinstance(echo, Echo)
        assert (echo.provider_id, echo.content) == (receipt["provider_id"], "lost")


async def test_credentials_of_another_account_are_refused(tmp_path: Path) -> None:
    """A token that works, but not for this account, does not count."""
    async with sides(tmp_path) as (channel, _):
        swapped = msgspec.structs.replace(
            channel._accounts["main"], access_token=ACCOUNTS["second"].access_token
        )
        channel._accounts["main"] = swapped
        error = await channel.check_credentials("main")
        assert error is not None
        assert (error.verdict, error.code) == (Verdict.ACCOUNT, "wrong_account")
