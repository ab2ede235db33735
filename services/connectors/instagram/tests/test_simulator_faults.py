"""The simulated Instagram Messaging when it is told to misbehave."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.connectors.instagram.tests.simulated import (
    CUSTOMER,
    MAIN,
    SECOND,
    World,
    bearer,
    simulator,
    stopped_clock,
    text,
    to,
)

OTHER = "9999999999999999"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh simulator."""
    async with simulator(tmp_path) as made:
        yield made


async def fault(world: World, kind: str, **script: Any) -> int:
    """Set a fault for the customer and return its id."""
    standing = await world.control("POST", "faults", {"kind": kind, "to": CUSTOMER, **script})
    return int(standing["id"])


LATER = {"code": 1, "subcode": 1357046, "keep": True}
WINDOW = {"code": 10, "subcode": 2534022}


@pytest.mark.parametrize(
    ("kind", "script", "status", "code", "subcode", "kept"),
    [
        pytest.param("error", {}, 400, 1, None, False, id="error"),
        pytest.param("error", LATER, 400, 1, 1357046, True, id="error, sent all the same"),
        pytest.param("error", WINDOW, 400, 10, 2534022, False, id="outside the window"),
        pytest.param("error", WINDOW | {"status": 500}, 500, 10, 2534022, False, id="status"),
        pytest.param("error", {"code": 551}, 400, 551, None, False, id="not available"),
        pytest.param("error", {"code": 77, "subcode": 8}, 400, 77, 8, False, id="unheard of"),
        pytest.param("throttle", {}, 429, 613, 2534040, False, id="throttle"),
        pytest.param("throttle", {"code": 4}, 429, 4, None, False, id="the app's throttle"),
    ],
)
async def test_a_scripted_error_is_answered(
    world: World,
    kind: str,
    script: dict[str, Any],
    status: int,
    code: int,
    subcode: int | None,
    *,
    kept: bool,
) -> None:
    """The code and its documented HTTP status are answered to that customer, as often as set."""
    await fault(world, kind, count=1, **script)
    assert (await world.send(to(OTHER)))[0] == 200
    answered, body = await world.send(text())
    assert (answered, body["error"]["code"]) == (status, code)
    assert body["error"].get("error_subcode") == subcode
    assert (await world.send(text()))[0] == 200
    _, receipt, _ = await world.receipts()
    assert (receipt["kept"], receipt["answer"]) == (kept, status)
    assert (receipt["error_code"], receipt["error_subcode"]) == (code, subcode)
    (standing,) = (await world.control("GET", "faults"))["items"]
    assert standing["hits"] == 1


async def test_the_http_status_can_be_the_one_that_was_seen(world: World) -> None:
    """Documents and observations disagree on the HTTP status; the code stays."""
    await world.control("PATCH", "settings", {"error_status": "seen"})
    await fault(world, "error", **WINDOW)
    status, body = await world.send(text())
    assert (status, body["error"]["code"]) == (403, 10)


@pytest.mark.parametrize("retry_after_s", [None, 7], ids=["without header", "with header"])
async def test_a_throttle_may_say_how_long(world: World, retry_after_s: int | None) -> None:
    """Retry-After is sent when the script has it."""
    await fault(world, "throttle", retry_after_s=retry_after_s)
    async with world.session.post(
        f"{world.url}/v23.0/me/messages", json=text(), headers=bearer(MAIN)
    ) as answer:
        expected = None if retry_after_s is None else str(retry_after_s)
        assert answer.headers.get("Retry-After") == expected


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "not kept"])
async def test_an_answer_gets_lost(world: World, *, kept: bool) -> None:
    """The connection is cut; the witness and the echo know whether the message was kept."""
    await fault(world, "answer_lost", keep=kept)
    with pytest.raises(aiohttp.ClientError):
        await world.send(text("lost"))
    (receipt,) = await world.receipts()
    assert (receipt["kept"], receipt["answer"], receipt["answered_at"]) == (kept, None, None)
    if kept:
        await world.until(lambda: world.steps() == ["echo", "read"])
        shown = world.items()[0]["message"]
        assert (shown["text"], shown["mid"]) == ("lost", receipt["provider_id"])
    assert (await world.control("GET", "state"))["kept"] == int(kept)


async def test_a_request_hangs_until_the_fault_is_removed(world: World) -> None:
    """Nothing is answered, then the connection is cut."""
    number = await fault(world, "hang")
    request = asyncio.create_task(world.send(text()))
    await world.until(lambda: len(world.steps()) == 2)
    assert not request.done()
    await world.control("DELETE", f"faults/{number}")
    with pytest.raises(aiohttp.ClientError):
        await request


async def test_a_slow_answer_comes_late(world: World) -> None:
    """The message is kept at once and answered after the delay."""
    await fault(world, "slow", delay_s=0.1)
    assert (await world.send(text()))[0] == 200
    (receipt,) = await world.receipts()
    assert receipt["answered_at"] - receipt["received_at"] >= 0.1


async def test_a_token_expires(world: World) -> None:
    """One account's messages and credentials checks are refused until the fault is removed."""
    await world.control("POST", "faults", {"kind": "token_expired", "account": "main"})
    status, body = await world.send(text())
    assert (status, body["error"]["code"], body["error"]["error_subcode"]) == (401, 190, 463)
    async with world.session.get(f"{world.url}/v23.0/me", headers=bearer(MAIN)) as answer:
        assert answer.status == 401
    assert (await world.send(text(), SECOND))[0] == 200
    await world.control("DELETE", "faults")
    assert (await world.send(text()))[0] == 200


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        pytest.param("webhook_reorder", ["read", "echo"], id="reorder"),
        pytest.param("webhook_duplicate", ["echo", "read"] * 2, id="duplicate"),
        pytest.param("webhook_batch", ["echo", "read"], id="batch"),
    ],
)
async def test_webhooks_misbehave(world: World, kind: str, steps: list[str]) -> None:
    """Echo and reading come in another order, twice, or in one request."""
    await world.control("PATCH", "settings", {"status_delay_s": 0.05})
    await fault(world, kind, delay_s=0.2)
    await world.send(text())
    await world.until(lambda: len(world.steps()) == len(steps))
    assert world.steps() == steps
    if kind == "webhook_batch":
        assert len(world.webhooks) == 1


async def test_an_echo_can_come_before_its_answer(world: World) -> None:
    """The echo was delivered when the answer arrives."""
    await world.control("PATCH", "settings", {"status_delay_s": 60})
    await fault(world, "webhook_before_answer")
    _, answer = await world.send(text())
    assert [item["message"]["mid"] for item in world.items()] == [answer["message_id"]]


async def test_updates_are_held_until_released(world: World) -> None:
    """A held customer's updates wait for the fault's removal; another's do not."""
    number = await fault(world, "webhook_hold")
    await world.send(text())
    await world.send(to(OTHER))
    await world.until(lambda: len(world.steps()) == 2)
    assert {item["recipient"]["id"] for item in world.items()} == {OTHER, MAIN.ig_id}
    assert (await world.control("GET", "state"))["updates_held"] == 2
    await world.control("DELETE", f"faults/{number}")
    await world.until(lambda: len(world.steps()) == 4)


@pytest.mark.parametrize("steps", [[], ["echo"], ["read"]], ids=["none", "echo", "read only"])
async def test_the_pattern_of_updates_can_be_switched(world: World, steps: list[str]) -> None:
    """Only the updates that are set come."""
    await world.control("PATCH", "settings", {"statuses": steps})
    await world.send(text())
    await world.write(OTHER)
    await world.until(lambda: len(world.items()) == len(steps) + 1)
    assert world.steps() == steps


async def test_the_real_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred pass at once; then that account waits for its rate and the other does not."""
    clock = stopped_clock(monkeypatch)
    async with simulator(tmp_path, quota_profile="real") as world:
        for n in range(100):
            assert (await world.send(to(str(1000 + n))))[0] == 200
        status, answer = await world.send(text())
        error = answer["error"]
        assert (status, error["code"], error["error_subcode"]) == (429, 613, 2534040)
        assert (await world.send(text(), SECOND))[0] == 200
        clock.now += 0.015
        assert [(await world.send(text()))[0] for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", "faults", {"kind": "earthquake"}, id="unknown fault"),
        pytest.param("POST", "faults", {"kind": "error", "account": "x"}, id="unknown account"),
        pytest.param("PATCH", "settings", {"statuses": ["sent"]}, id="another channel's status"),
        pytest.param("PATCH", "settings", {"known_users": "some"}, id="unknown choice"),
        pytest.param(
            "POST", "messages", {"from": "1", "text": "oi", "account": "x"}, id="to nobody"
        ),
        pytest.param(
            "POST", "messages", {"from": "maria", "text": "oi", "account": "main"}, id="no id"
        ),
    ],
)
async def test_the_control_api_is_strict(
    world: World, method: str, path: str, body: dict[str, Any]
) -> None:
    """A script that means nothing is refused with a sentence."""
    with pytest.raises(AssertionError, match="urn:chat4all:problem:"):
        await world.control(method, path, body)
