"""The simulated WhatsApp Cloud API when it is told to misbehave."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.connectors.whatsapp.tests.simulated import (
    BEARER,
    CUSTOMER,
    NUMBER,
    World,
    simulator,
    text,
)

OTHER_CUSTOMER = "5511900000000"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh simulator."""
    async with simulator(tmp_path) as made:
        yield made


async def fault(world: World, kind: str, **script: Any) -> int:
    """Set a fault for the customer and return its id."""
    standing = await world.control("POST", "faults", {"kind": kind, "to": CUSTOMER, **script})
    return int(standing["id"])


@pytest.mark.parametrize(
    ("kind", "script", "status", "code", "kept"),
    [
        pytest.param("error", {}, 500, 131000, False, id="error"),
        pytest.param("error", {"keep": True}, 500, 131000, True, id="error, kept all the same"),
        pytest.param("error", {"code": 131026}, 400, 131026, False, id="undeliverable"),
        pytest.param("error", {"code": 1, "status": 502}, 502, 1, False, id="HTTP status"),
        pytest.param("throttle", {}, 429, 130429, False, id="throttle"),
        pytest.param("throttle", {"code": 131056}, 400, 131056, False, id="pair throttle"),
    ],
)
async def test_a_scripted_error_is_answered(
    world: World, kind: str, script: dict[str, Any], status: int, code: int, *, kept: bool
) -> None:
    """The code and its documented HTTP status are answered to that customer, as often as set."""
    await fault(world, kind, count=1, **script)
    assert (await world.send(text(to=OTHER_CUSTOMER)))[0] == 200
    answered, body = await world.send(text())
    assert (answered, body["error"]["code"]) == (status, code)
    assert (await world.send(text()))[0] == 200
    _, receipt, _ = await world.receipts()
    assert (receipt["kept"], receipt["answer"], receipt["error_code"]) == (kept, status, code)
    (standing,) = (await world.control("GET", "faults"))["items"]
    assert standing["hits"] == 1


async def test_the_http_status_can_be_the_one_that_was_seen(world: World) -> None:
    """Documents and observations disagree on the HTTP status; the code stays."""
    await world.control("PATCH", "settings", {"error_status": "seen"})
    await fault(world, "throttle")
    status, body = await world.send(text())
    assert (status, body["error"]["code"]) == (400, 130429)


@pytest.mark.parametrize("retry_after_s", [None, 7], ids=["without header", "with header"])
async def test_a_throttle_may_say_how_long(world: World, retry_after_s: int | None) -> None:
    """Retry-After is sent when the script has it."""
    await fault(world, "throttle", retry_after_s=retry_after_s)
    async with world.session.post(
        f"{world.url}/v23.0/{NUMBER}/messages", json=text(), headers=BEARER
    ) as answer:
        expected = None if retry_after_s is None else str(retry_after_s)
        assert answer.headers.get("Retry-After") == expected


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "not kept"])
async def test_an_answer_gets_lost(world: World, *, kept: bool) -> None:
    """The connection is cut; the witness and the statuses know whether the message was kept."""
    await fault(world, "answer_lost", keep=kept)
    with pytest.raises(aiohttp.ClientError):
        await world.send(text(biz_opaque_callback_data="ours"))
    (receipt,) = await world.receipts()
    assert (receipt["kept"], receipt["answer"], receipt["answered_at"]) == (kept, None, None)
    if kept:
        await world.until(lambda: len(world.statuses()) == 3)
        assert world.statuses()[0]["biz_opaque_callback_data"] == "ours"
    assert (await world.control("GET", "state"))["kept"] == int(kept)


async def test_a_request_hangs_until_the_fault_is_removed(world: World) -> None:
    """Nothing is answered, then the connection is cut."""
    number = await fault(world, "hang")
    request = asyncio.create_task(world.send(text()))
    await world.until(lambda: len(world.statuses()) == 3)
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
    """Messages and credentials checks are refused until the fault is removed."""
    await world.control("POST", "faults", {"kind": "token_expired", "account": "shop"})
    status, body = await world.send(text())
    assert (status, body["error"]["code"], body["error"]["error_subcode"]) == (401, 190, 463)
    async with world.session.get(f"{world.url}/v23.0/{NUMBER}", headers=BEARER) as answer:
        assert answer.status == 401
    await world.control("DELETE", "faults")
    assert (await world.send(text()))[0] == 200


async def test_an_accepted_message_fails_later(world: World) -> None:
    """Instead of `sent` comes `failed`, with its error."""
    await fault(world, "status_failed", code=131049)
    assert (await world.send(text()))[0] == 200
    await world.until(lambda: bool(world.statuses()))
    (status,) = world.statuses()
    assert (status["status"], status["errors"][0]["code"]) == ("failed", 131049)


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        pytest.param("webhook_reorder", ["read", "delivered", "sent"], id="reorder"),
        pytest.param("webhook_duplicate", ["sent", "delivered", "read"] * 2, id="duplicate"),
        pytest.param("webhook_batch", ["sent", "delivered", "read"], id="batch"),
    ],
)
async def test_webhooks_misbehave(world: World, kind: str, steps: list[str]) -> None:
    """Statuses come in another order, twice, or all in one request."""
    await world.control("PATCH", "settings", {"status_delay_s": 0.05})
    await fault(world, kind, delay_s=0.2)
    await world.send(text())
    await world.until(lambda: len(world.statuses()) == len(steps))
    assert [status["status"] for status in world.statuses()] == steps
    if kind == "webhook_batch":
        assert len(world.webhooks) == 1


async def test_a_status_can_come_before_its_answer(world: World) -> None:
    """The first status was delivered when the answer arrives."""
    await world.control("PATCH", "settings", {"status_delay_s": 60})
    await fault(world, "webhook_before_answer")
    _, answer = await world.send(text())
    assert [status["id"] for status in world.statuses()] == [answer["messages"][0]["id"]]


async def test_statuses_are_held_until_released(world: World) -> None:
    """A held customer's statuses wait for the fault's removal; another's do not."""
    number = await fault(world, "webhook_hold")
    await world.send(text())
    await world.send(text(to=OTHER_CUSTOMER))
    await world.until(lambda: len(world.statuses()) == 3)
    assert {status["recipient_id"] for status in world.statuses()} == {OTHER_CUSTOMER}
    assert (await world.control("GET", "state"))["updates_held"] == 3
    await world.control("DELETE", f"faults/{number}")
    await world.until(lambda: len(world.statuses()) == 6)


@pytest.mark.parametrize("steps", [[], ["sent"], ["read"]], ids=["none", "sent", "read at once"])
async def test_the_pattern_of_statuses_can_be_switched(world: World, steps: list[str]) -> None:
    """Only the statuses that are set come."""
    await world.control("PATCH", "settings", {"statuses": steps})
    await world.send(text())
    await world.control("POST", "messages", {"from": OTHER_CUSTOMER, "text": "last"})
    await world.until(lambda: any("messages" in value for value in world.values()))
    await world.until(lambda: len(world.statuses()) == len(steps))
    assert [status["status"] for status in world.statuses()] == steps


async def test_a_brazilian_mobile_is_named_without_its_ninth_digit(world: World) -> None:
    """When switched on, answers and statuses name another number than was asked for."""
    await world.control("PATCH", "settings", {"drop_ninth_digit": True})
    _, answer = await world.send(text())
    assert answer["contacts"] == [{"input": CUSTOMER, "wa_id": "551187654321"}]
    await world.until(lambda: bool(world.statuses()))
    assert world.statuses()[0]["recipient_id"] == "551187654321"


async def test_the_window_can_be_enforced(world: World) -> None:
    """Outside 24 hours only templates pass; the refusal is an answer or a failed status."""
    await world.control("PATCH", "settings", {"enforce_window": "answer"})
    template = {"name": "hello", "language": {"code": "pt_BR"}}
    assert (await world.send(text(type="template", text=None, template=template)))[0] == 200
    status, answer = await world.send(text())
    assert (status, answer["error"]["code"]) == (400, 131047)
    await world.control("PATCH", "settings", {"enforce_window": "status"})
    await world.send(text())
    await world.until(lambda: len(world.statuses()) == 4)
    (failed,) = [status for status in world.statuses() if status["status"] == "failed"]
    assert failed["errors"][0]["code"] == 131047
    await world.control("PATCH", "settings", {"enforce_window": "answer"})
    await world.control("POST", "messages", {"from": CUSTOMER, "text": "oi"})
    assert (await world.send(text()))[0] == 200


async def test_the_real_quotas(tmp_path: Path) -> None:
    """45 messages to one customer pass at once; then that pair waits and others do not."""
    async with simulator(tmp_path, quota_profile="real") as world:
        for _ in range(45):
            assert (await world.send(text()))[0] == 200
        status, answer = await world.send(text())
        assert (status, answer["error"]["code"]) == (400, 131056)
        assert (await world.send(text(to=OTHER_CUSTOMER)))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", "faults", {"kind": "earthquake"}, id="unknown fault"),
        pytest.param("POST", "faults", {"kind": "error", "account": "x"}, id="unknown account"),
        pytest.param("POST", "faults", {"kind": "error", "count": 0}, id="no count"),
        pytest.param("PATCH", "settings", {"statuses": ["eaten"]}, id="unknown status"),
        pytest.param("POST", "messages", {"from": "maria", "text": "oi"}, id="no number"),
        pytest.param("DELETE", "faults/99", None, id="unknown fault's id"),
    ],
)
async def test_the_control_api_is_strict(
    world: World, method: str, path: str, body: dict[str, Any] | None
) -> None:
    """A script that means nothing is refused with a sentence."""
    with pytest.raises(AssertionError, match="urn:chat4all:problem:"):
        await world.control(method, path, body)
