"""The simulated Bot API when it is told to misbehave."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.connectors.telegram.tests.simulated import (
    CHAT,
    MAIN,
    OTHER_CHAT,
    World,
    simulator,
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh simulator."""
    async with simulator(tmp_path) as made:
        yield made


async def fault(world: World, kind: str, **script: Any) -> int:
    """Set a fault for the chat and return its id."""
    body = {"kind": kind, "to": str(CHAT), **script}
    return int((await world.control("POST", "faults", body))["id"])


@pytest.mark.parametrize(
    ("kind", "script", "status", "description", "kept"),
    [
        pytest.param("error", {}, 500, "Internal Server Error: restart", False, id="error"),
        pytest.param(
            "error", {"keep": True}, 500, "Internal Server Error: restart", True, id="error, kept"
        ),
        pytest.param(
            "error", {"code": 403}, 403, "Forbidden: bot was blocked by the user", False, id="403"
        ),
        pytest.param("error", {"status": 400}, 400, "Bad Request: chat not found", False, id="400"),
        pytest.param("throttle", {}, 429, "Too Many Requests: retry after 1", False, id="throttle"),
        pytest.param(
            "throttle",
            {"retry_after_s": 7},
            429,
            "Too Many Requests: retry after 7",
            False,
            id="long throttle",
        ),
    ],
)
async def test_a_scripted_error_is_answered(
    world: World, kind: str, script: dict[str, Any], status: int, description: str, *, kept: bool
) -> None:
    """The sentence of the code is answered to that chat, as often as set."""
    await fault(world, kind, count=1, **script)
    assert (await world.send(chat_id=OTHER_CHAT))[0] == 200
    answered, body = await world.send()
    assert (answered, body["description"]) == (status, description)
    assert (await world.send())[0] == 200
    _, receipt, _ = await world.receipts()
    assert (receipt["kept"], receipt["answer"], receipt["error_code"]) == (kept, status, status)
    assert (receipt["provider_id"] is not None) == kept


async def test_a_throttle_says_how_long_twice(world: World) -> None:
    """The time stands in the parameters and in the header."""
    await fault(world, "throttle", retry_after_s=7)
    url = f"{world.url}/bot{MAIN.bot_token}/sendMessage"
    async with world.session.post(url, json={"chat_id": CHAT, "text": "a"}) as answer:
        assert answer.headers["Retry-After"] == "7"
        assert (await answer.json())["parameters"] == {"retry_after": 7}


async def test_the_servers_in_front_have_no_envelope(world: World) -> None:
    """A bad gateway is a page, not JSON."""
    await fault(world, "error", status=502)
    url = f"{world.url}/bot{MAIN.bot_token}/sendMessage"
    async with world.session.post(url, json={"chat_id": CHAT, "text": "a"}) as answer:
        assert (answer.status, answer.content_type) == (502, "text/html")


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "not kept"])
async def test_an_answer_gets_lost(world: World, *, kept: bool) -> None:
    """The connection is cut; the witness knows whether the message was kept."""
    await fault(world, "answer_lost", keep=kept)
    with pytest.raises(aiohttp.ClientError):
        await world.send()
    (receipt,) = await world.receipts()
    assert (receipt["kept"], receipt["answer"], receipt["answered_at"]) == (kept, None, None)
    assert (await world.control("GET", "state"))["kept"] == int(kept)


async def test_a_request_hangs_until_the_fault_is_removed(world: World) -> None:
    """Nothing is answered, then the connection is cut."""
    number = await fault(world, "hang")
    request = asyncio.create_task(world.send())
    async with asyncio.timeout(5):
        while not await world.receipts():
            await asyncio.sleep(0.01)
    assert not request.done()
    await world.control("DELETE", f"faults/{number}")
    with pytest.raises(aiohttp.ClientError):
        await request


async def test_a_slow_answer_comes_late(world: World) -> None:
    """The message is kept at once and answered after the delay."""
    await fault(world, "slow", delay_s=0.1)
    assert (await world.send())[0] == 200
    (receipt,) = await world.receipts()
    assert receipt["answered_at"] - receipt["received_at"] >= 0.1


async def test_a_token_expires(world: World) -> None:
    """Messages and credentials checks of one bot are refused until the fault is removed."""
    await world.control("POST", "faults", {"kind": "token_expired", "account": "main"})
    for method in ("getMe", "sendMessage"):
        status, body = await world.call(method)
        assert (status, body["description"]) == (401, "Unauthorized")
    await world.control("DELETE", "faults")
    assert (await world.call("getMe"))[0] == 200


async def test_an_update_comes_twice(world: World) -> None:
    """A duplicate is the same update, number and all."""
    await fault(world, "webhook_duplicate", delay_s=0.05)
    await world.write("1")
    await world.until(lambda: len(world.webhooks) == 2)
    assert len({came.raw for came in world.webhooks}) == 1


async def test_updates_are_held_until_released(world: World) -> None:
    """A held chat's updates wait for the fault's removal; another's do not."""
    number = await fault(world, "webhook_hold")
    await world.write("held")
    await world.write("free", chat=OTHER_CHAT)
    await world.until(lambda: [came.text for came in world.webhooks] == ["free"])
    assert (await world.control("GET", "state"))["updates_held"] == 1
    await world.control("DELETE", f"faults/{number}")
    await world.until(lambda: [came.text for came in world.webhooks] == ["free", "held"])


async def test_a_later_update_can_overtake(world: World) -> None:
    """A reordered update is held back; one that a customer writes then comes first."""
    await fault(world, "webhook_reorder", count=1, delay_s=0.15)
    await world.write("first")
    await world.write("second")
    await world.until(lambda: len(world.webhooks) == 2)
    assert [came.text for came in world.webhooks] == ["second", "first"]


async def test_a_bot_may_have_to_wait_for_the_customer(world: World) -> None:
    """When that is switched on, a bot knows only those who have written to it."""
    await world.control("PATCH", "settings", {"must_start": True})
    status, answer = await world.send()
    assert (status, answer["description"]) == (400, "Bad Request: chat not found")
    await world.write("/start")
    assert (await world.send())[0] == 200


async def test_a_customer_may_block_the_bot(world: World) -> None:
    """Who has blocked the bot is not written to."""
    await world.control("PATCH", "settings", {"blocked_by": [str(CHAT)]})
    status, answer = await world.send()
    assert (status, answer["description"]) == (403, "Forbidden: bot was blocked by the user")
    assert (await world.send(chat_id=OTHER_CHAT))[0] == 200


async def test_a_group_may_be_upgraded(world: World) -> None:
    """The refusal names the supergroup, which takes messages."""
    await world.control("PATCH", "settings", {"upgraded": {"-123": -1001234567890}})
    status, answer = await world.send(chat_id=-123)
    description = "Bad Request: group chat was upgraded to a supergroup chat"
    assert (status, answer["description"]) == (400, description)
    assert answer["parameters"] == {"migrate_to_chat_id": -1001234567890}
    assert (await world.send(chat_id=-1001234567890))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", "faults", {"kind": "error", "account": "x"}, id="unknown account"),
        pytest.param("PATCH", "settings", {"statuses": ["delivered"]}, id="statuses"),
        pytest.param("PATCH", "settings", {"colour": "red"}, id="unknown setting"),
        pytest.param(
            "POST", "messages", {"from": "5", "text": "oi", "account": "x"}, id="to nobody"
        ),
        pytest.param(
            "POST", "messages", {"from": "ana", "text": "oi", "account": "main"}, id="no chat"
        ),
        pytest.param(
            "POST",
            "messages",
            {"from": "5", "text": "oi", "account": "main", "reply_to": "wamid.x"},
            id="no message",
        ),
    ],
)
async def test_the_control_api_is_strict(
    world: World, method: str, path: str, body: dict[str, Any]
) -> None:
    """A script that means nothing is refused with a sentence."""
    with pytest.raises(AssertionError, match="urn:chat4all:problem:"):
        await world.control(method, path, body)
