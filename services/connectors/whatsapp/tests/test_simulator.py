"""The simulated WhatsApp Cloud API, asked by plain HTTP and by a client library of others."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pywa.client import WhatsApp
from pywa.errors import WhatsAppError

from services.connectors.tests.simulated import Body
from services.connectors.whatsapp.tests.simulated import (
    BEARER,
    CUSTOMER,
    NUMBER,
    SHOP,
    World,
    simulator,
    text,
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh simulator."""
    async with simulator(tmp_path) as made:
        yield made


def other(kind: str, node: Body) -> Body:
    """Return a message of another type."""
    return text(type=kind, text=None) | {kind: node}


ACCEPTED = {
    "text": text(),
    "longest text": text(text={"body": "x" * 4096}),
    "reply": text(context={"message_id": "wamid.abc"}),
    "opaque data": text(biz_opaque_callback_data="x" * 512),
    "number as people write it": text(to="+55 (11) 98765-4321"),
    "image by link": other("image", {"link": "https://example.com/a.png", "caption": "a"}),
    "document by id": other("document", {"id": "123", "filename": "a.pdf"}),
    "location": other("location", {"latitude": -23.5, "longitude": "-46.6"}),
    "reaction removed": other("reaction", {"message_id": "wamid.abc", "emoji": ""}),
    "buttons": other("interactive", {"type": "button", "body": {"text": "?"}, "action": {}}),
    "template": other("template", {"name": "hello", "language": {"code": "pt_BR"}}),
}


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED)
async def test_accepts(world: World, body: Body) -> None:
    """A documented message is kept, named and witnessed."""
    status, answer = await world.send(body)
    assert (status, answer["messaging_product"]) == (200, "whatsapp")
    assert answer["contacts"] == [{"input": body["to"], "wa_id": CUSTOMER}]
    assert ("message_status" in answer["messages"][0]) == (body["type"] == "template")
    (receipt,) = await world.receipts()
    assert receipt["provider_id"] == answer["messages"][0]["id"]
    assert receipt["provider_id"].startswith("wamid.")
    assert (receipt["kept"], receipt["answer"], receipt["to"]) == (True, 200, CUSTOMER)
    assert receipt["text"] == body.get("text", {}).get("body", "")
    assert receipt["received_at"] <= receipt["answered_at"]


REFUSED = {
    "no messaging_product": (text(messaging_product=None), 131008),
    "wrong messaging_product": (text(messaging_product="telegram"), 100),
    "no recipient": (text(to=None), 131008),
    "recipient is no number": (text(to="maria"), 131009),
    "recipient is the sender": (text(to=SHOP.display_phone_number), 131021),
    "no type": (text(type=None), 131008),
    "unknown type": (text(type="fax"), 100),
    "no node": (text(text=None), 131008),
    "no body": (text(text={}), 131008),
    "empty body": (text(text={"body": ""}), 100),
    "body of 4097 characters": (text(text={"body": "x" * 4097}), 100),
    "body is a number": (text(text={"body": 5}), 100),
    "unknown key": (text(idempotency_key="1"), 100),
    "unknown key in a node": (text(text={"body": "a", "colour": "red"}), 100),
    "two nodes": (text(image={"id": "1"}), 100),
    "empty context": (text(context={}), 131008),
    "opaque data of 513 characters": (text(biz_opaque_callback_data="x" * 513), 131009),
    "media without id and link": (other("image", {"caption": "a"}), 131009),
    "media by a file": (other("image", {"link": "file:///etc/passwd"}), 131009),
    "reaction to nothing": (other("reaction", {"emoji": "x"}), 131008),
    "template without language": (other("template", {"name": "hello"}), 131008),
    "not an object": ([text()], 100),
}


@pytest.mark.parametrize(("body", "code"), REFUSED.values(), ids=REFUSED)
async def test_refuses(world: World, body: Body, code: int) -> None:
    """Anything else is refused in the provider's envelope, and nothing is kept or told."""
    status, answer = await world.send(body)
    error = answer["error"]
    assert (status, error["code"], error["type"]) == (400, code, "OAuthException")
    assert error["message"].startswith(f"(#{code}) ")
    assert error["error_data"]["messaging_product"] == "whatsapp"
    assert error["fbtrace_id"]
    (receipt,) = await world.receipts()
    assert (receipt["kept"], receipt["answer"], receipt["error_code"]) == (False, 400, code)
    assert (await world.control("GET", "state"))["webhooks"]["updates_pending"] == 0


MESSAGES = f"/v23.0/{NUMBER}/messages"
ASTRAY = {
    "no token": ("POST", MESSAGES, {}, 401, 190, None),
    "wrong token": ("POST", MESSAGES, {"Authorization": "Bearer wrong"}, 401, 190, None),
    "wrong scheme": ("POST", MESSAGES, {"Authorization": "Basic x"}, 401, 190, None),
    "unknown number": ("POST", "/v23.0/999/messages", BEARER, 400, 100, 33),
    "wrong method": ("DELETE", MESSAGES, BEARER, 400, 100, 33),
    "no version": ("POST", f"/{NUMBER}/messages", BEARER, 400, 2500, None),
    "unknown path": ("GET", "/v23.0/me/accounts", BEARER, 400, 2500, None),
    "unknown field": ("GET", f"/v23.0/{NUMBER}?fields=colour", BEARER, 400, 100, None),
    "broken JSON": ("POST", MESSAGES, BEARER, 400, 100, None),
}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code", "subcode"), ASTRAY.values(), ids=ASTRAY
)
async def test_leads_nowhere(
    world: World,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
    code: int,
    subcode: int | None,
) -> None:
    """Without the right token, number, path or JSON the answer says which is wrong."""
    async with world.session.request(
        method,
        world.url + path,
        data=b'{"messaging_product":',
        headers={**headers, "Content-Type": "application/json"},
    ) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"], error.get("error_subcode")) == (status, code, subcode)


async def test_credentials_can_be_checked(world: World) -> None:
    """The number's own fields answer to its token."""
    async with world.session.get(
        f"{world.url}/v23.0/{NUMBER}?fields=display_phone_number,quality_rating", headers=BEARER
    ) as answer:
        assert await answer.json() == {
            "id": NUMBER,
            "display_phone_number": SHOP.display_phone_number,
            "quality_rating": "GREEN",
        }


async def test_statuses_follow_and_are_signed(world: World) -> None:
    """Sent, delivered, read: each with our opaque data, under a signature over the raw bytes."""
    _, answer = await world.send(text(biz_opaque_callback_data="ação/1"))
    await world.until(lambda: len(world.statuses()) == 3)
    assert [status["status"] for status in world.statuses()] == ["sent", "delivered", "read"]
    for status in world.statuses():
        assert status["id"] == answer["messages"][0]["id"]
        assert status["recipient_id"] == CUSTOMER
        assert status["biz_opaque_callback_data"] == "ação/1"
    for raw, signature in world.webhooks:
        digest = hmac.new(SHOP.app_secret.encode(), raw, hashlib.sha256).hexdigest()
        assert signature == f"sha256={digest}"
        assert b"a\\u00e7\\u00e3o" in raw
        assert raw.isascii()
    assert world.values()[0]["metadata"]["phone_number_id"] == NUMBER


@pytest.mark.parametrize(("version", "told"), [("v23.0", True), ("v24.0", False)])
async def test_the_conversation_is_told_until_v23(
    world: World, version: str, *, told: bool
) -> None:
    """From v24 on statuses say nothing of the conversation, only of the price."""
    await world.send(text(), version=version)
    await world.until(lambda: len(world.statuses()) == 3)
    assert ("conversation" in world.statuses()[0]) == told
    assert world.statuses()[0]["pricing"]["pricing_model"] == "PMP"


async def test_a_customer_writes(world: World) -> None:
    """What a customer writes comes with its contact, its context and a known id."""
    body = {"from": CUSTOMER, "name": "Mariá", "text": "oi 🙂", "reply_to": "wamid.abc"}
    wamid = (await world.control("POST", "messages", body))["id"]
    await world.until(lambda: bool(world.values()))
    (value,) = world.values()
    assert value["contacts"] == [{"profile": {"name": "Mariá"}, "wa_id": CUSTOMER}]
    (message,) = value["messages"]
    assert (message["id"], message["from"], message["type"]) == (wamid, CUSTOMER, "text")
    assert message["text"] == {"body": "oi 🙂"}
    assert message["context"] == {"from": SHOP.display_phone_number, "id": "wamid.abc"}
    assert b"\\ud83d\\ude42" in world.webhooks[0][0]


async def test_memory_survives_a_restart(tmp_path: Path) -> None:
    """Receipts go on counting, and a mark of an older customer's message is still known."""
    async with simulator(tmp_path) as world:
        wamid = (await world.control("POST", "messages", {"from": CUSTOMER, "text": "oi"}))["id"]
        _, answer = await world.send(text())
    mark = {"messaging_product": "whatsapp", "status": "read"}
    async with simulator(tmp_path) as world:
        assert await world.send(mark | {"message_id": wamid}) == (200, {"success": True})
        ours = answer["messages"][0]["id"]
        for unknown in (ours, "wamid.abc", wamid[:-2] + "AA"):
            status, answer = await world.send(mark | {"message_id": unknown})
            assert (status, answer["error"]["code"]) == (400, 131009)
        await world.send(text())
        assert [receipt["seq"] for receipt in await world.receipts()] == [1, 2]


async def test_the_handshake_precedes_webhooks(world: World) -> None:
    """The address is verified with its token at the start and on command."""
    state = await world.control("POST", "verify", {})
    assert state["verified"]
    assert {query["hub.verify_token"] for query in world.challenges} == {SHOP.verify_token}
    assert {query["hub.mode"] for query in world.challenges} == {"subscribe"}


async def test_a_raw_webhook_keeps_its_bytes(world: World) -> None:
    """A webhook of the test's own is signed as it stands and the answer is reported."""
    answer = await world.control("POST", "webhooks", {"body": {"object": "x"}})
    assert (answer["status"], answer["headers"]["Content-Length"]) == (200, "0")
    raw, signature = world.webhooks[0]
    assert json.loads(raw) == {"object": "x"}
    digest = hmac.new(SHOP.app_secret.encode(), raw, hashlib.sha256).hexdigest()
    assert signature == f"sha256={digest}"


def _with_pywa(url: str, customers_id: str) -> str:
    """Send, reply, mark as read and fail through pywa; return the id of what was sent."""
    client = WhatsApp(NUMBER, SHOP.access_token, session=httpx.Client())
    client.api._session.base_url = httpx.URL(f"{url}/v23.0")
    sent = client.send_message(CUSTOMER, "hello", reply_to_message_id=customers_id, tracker="t-1")
    client.mark_message_as_read(customers_id)
    with pytest.raises(WhatsAppError, match="code=100"):
        client.send_message(CUSTOMER, "x" * 4097)
    return str(sent.id)


async def test_an_independent_client_is_content(world: World) -> None:
    """The library pywa, written against the real API, sends to the simulator and hears of it."""
    body = {"from": CUSTOMER, "text": "oi"}
    customers_id = (await world.control("POST", "messages", body))["id"]
    sent_id = await asyncio.to_thread(_with_pywa, world.url, customers_id)
    await world.until(lambda: len(world.statuses()) == 3)
    kept, refused = await world.receipts()
    assert (kept["provider_id"], kept["context"], kept["opaque"]) == (sent_id, customers_id, "t-1")
    assert (refused["kept"], refused["error_code"]) == (False, 100)
