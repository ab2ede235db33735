"""The simulated Instagram Messaging, asked by plain HTTP."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.connectors import simulator_webhooks
from services.connectors.instagram.simulator_nodes import Customers
from services.connectors.instagram.tests.simulated import (
    CUSTOMER,
    MAIN,
    SECOND,
    Clock,
    World,
    bearer,
    simulator,
    stopped_clock,
    text,
)
from services.connectors.tests.simulated import Body


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh simulator."""
    async with simulator(tmp_path) as made:
        yield made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The simulator's time, which the test moves."""
    return stopped_clock(monkeypatch)


def attached(kind: str = "image", **payload: Any) -> Body:
    """Return a message with an attachment."""
    return text(message={"attachment": {"type": kind, "payload": payload}})


LINK = "https://example.com/a.png"
ACCEPTED = {
    "text": text(),
    "longest text": text("é" * 500),
    "response": text(messaging_type="RESPONSE"),
    "reply in the message": text(message={"text": "a", "reply_to": {"mid": "aWdf.x"}}),
    "reply beside the message": text(reply_to={"mid": "aWdf.x"}),
    "from a person": text(messaging_type="MESSAGE_TAG", tag="HUMAN_AGENT"),
    "from a person, tag only": text(tag="HUMAN_AGENT"),
    "image by link": attached(url=LINK),
    "reusable video": attached("video", url=LINK, is_reusable=True),
    "uploaded file": attached("file", attachment_id="123"),
}


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED)
async def test_accepts(world: World, body: Body) -> None:
    """A documented message is kept, named and witnessed."""
    status, answer = await world.send(body)
    assert (status, answer["recipient_id"]) == (200, CUSTOMER)
    (receipt,) = await world.receipts()
    assert receipt["provider_id"] == answer["message_id"]
    assert receipt["provider_id"].startswith("aWdf")
    assert (receipt["kept"], receipt["answer"], receipt["to"]) == (True, 200, CUSTOMER)
    assert (receipt["account"], receipt["error_code"]) == ("main", None)
    assert receipt["text"] == body["message"].get("text", "")
    assert receipt["type"] == body["message"].get("attachment", {"type": "text"})["type"]
    assert receipt["context"] == ("aWdf.x" if "aWdf.x" in json.dumps(body) else None)
    assert receipt["received_at"] <= receipt["answered_at"]


REFUSED: dict[str, Any] = {
    "no recipient": text(recipient=None),
    "recipient is no id": text(recipient={"id": "maria"}),
    "recipient is a number": text(recipient={"id": 5}),
    "recipient with an unknown key": text(recipient={"id": CUSTOMER, "phone_number": "5"}),
    "no message": text(message=None),
    "neither text nor attachment": text(message={}),
    "text and attachment": text(
        message={"text": "a", "attachment": {"type": "image", "payload": {"url": LINK}}}
    ),
    "empty text": text(""),
    "text of 1001 bytes": text("x" * 1001),
    "text of 501 characters in 1002 bytes": text("é" * 501),
    "text is a number": text(message={"text": 5}),
    "unknown key": text(idempotency_key="1"),
    "unknown key in the message": text(message={"text": "a", "metadata": "b"}),
    "reply to nothing": text(message={"text": "a", "reply_to": {}}),
    "reply twice": text(message={"text": "a", "reply_to": {"mid": "x"}}, reply_to={"mid": "x"}),
    "unknown type": text(messaging_type="SHOUT"),
    "ended tag": text(messaging_type="MESSAGE_TAG", tag="CONFIRMED_EVENT_UPDATE"),
    "tagged without a tag": text(messaging_type="MESSAGE_TAG"),
    "unknown attachment": attached("sticker", url=LINK),
    "attachment without a file": attached(),
    "attachment with two files": attached(url=LINK, attachment_id="1"),
    "attachment by a file": attached(url="file:///etc/passwd"),
    "not an object": [text()],
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
async def test_refuses(world: World, body: Body) -> None:
    """Anything else is refused in the provider's envelope, and nothing is kept or told."""
    status, answer = await world.send(body)
    error = answer["error"]
    assert (status, error["code"], error["type"]) == (400, 100, "OAuthException")
    assert error["message"].startswith("(#100) ")
    assert error["fbtrace_id"]
    (receipt,) = await world.receipts()
    assert (receipt["kept"], receipt["answer"], receipt["error_code"]) == (False, 400, 100)
    assert (await world.control("GET", "state"))["webhooks"]["updates_pending"] == 0


async def test_nobody_is_their_own_customer(world: World) -> None:
    """An account's own id is nobody it can write to."""
    status, answer = await world.send(text(recipient={"id": MAIN.ig_id}))
    assert (status, answer["error"]["error_subcode"]) == (400, 2534014)


MESSAGES = f"/v23.0/{MAIN.ig_id}/messages"
OURS = bearer(MAIN)
ASTRAY = {
    "no token": ("POST", MESSAGES, {}, 401, 190, None),
    "wrong token": ("POST", MESSAGES, {"Authorization": "Bearer wrong"}, 401, 190, None),
    "wrong scheme": ("POST", MESSAGES, {"Authorization": "Basic x"}, 401, 190, None),
    "another's token": ("POST", MESSAGES, bearer(SECOND), 400, 100, 33),
    "another login's object": ("POST", f"/v23.0/{MAIN.page_id}/messages", OURS, 400, 100, 33),
    "unknown object": ("POST", "/v23.0/999/messages", OURS, 400, 100, 33),
    "wrong method": ("DELETE", MESSAGES, OURS, 400, 100, 33),
    "no version": ("POST", f"/{MAIN.ig_id}/messages", OURS, 400, 2500, None),
    "unknown path": ("GET", "/v23.0/mean/accounts", OURS, 400, 2500, None),
    "unknown edge": ("GET", "/v23.0/me/accounts", OURS, 400, 100, 33),
    "unknown field": ("GET", "/v23.0/me?fields=colour", OURS, 400, 100, None),
    "broken JSON": ("POST", MESSAGES, OURS, 400, 100, None),
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
    """Without the right token, object, path or JSON the answer says which is wrong."""
    async with world.session.request(
        method,
        world.url + path,
        data=b'{"recipient":',
        headers={**headers, "Content-Type": "application/json"},
    ) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"], error.get("error_subcode")) == (status, code, subcode)


async def test_a_form_is_not_taken(world: World) -> None:
    """Only JSON is taken."""
    async with world.session.post(world.url + MESSAGES, data={"a": "b"}, headers=OURS) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, 100)


PAGE = MAIN.page_id or ""
OWNERS: dict[str, tuple[dict[str, str], str]] = {
    "instagram": ({"user_id": MAIN.ig_id, "username": "simulated.business"}, MAIN.ig_id),
    "facebook": ({"id": PAGE, "name": "Simulated business"}, PAGE),
}


@pytest.mark.parametrize("login", OWNERS)
async def test_a_login_decides_the_object_of_an_account(tmp_path: Path, login: str) -> None:
    """A token's owner is the account or its page; messages go through it or through `me`."""
    fields, node = OWNERS[login]
    async with simulator(tmp_path, login=login) as world:
        for path in ("me", node):
            url = f"{world.url}/v23.0/{path}?fields={','.join(fields)}"
            async with world.session.get(url, headers=OURS) as answer:
                owner = await answer.json()
            assert {name: owner[name] for name in fields} == fields
            # The id that a login with Instagram shows is the app's own for the account.
            assert (owner["id"] == node) == (login == "facebook")
            assert (await world.send(text(), node=path))[0] == 200


async def test_a_token_may_stand_in_the_query(world: World) -> None:
    """The documented requests carry it there."""
    url = f"{world.url}/v23.0/me?fields=user_id&access_token={SECOND.access_token}"
    async with world.session.get(url) as answer:
        assert (await answer.json())["user_id"] == SECOND.ig_id


async def test_an_echo_and_a_reading_follow_and_are_signed(world: World) -> None:
    """Each kept message is shown with its name, then seen, under a signature of the raw bytes."""
    _, answer = await world.send(text("ação 🙂"))
    await world.until(lambda: len(world.items()) == 2)
    echo, read = world.items()
    assert (echo["sender"]["id"], echo["recipient"]["id"]) == (MAIN.ig_id, CUSTOMER)
    mid = answer["message_id"]
    assert echo["message"] == {"mid": mid, "text": "ação 🙂", "is_echo": True}
    assert (read["sender"]["id"], read["recipient"]["id"]) == (CUSTOMER, MAIN.ig_id)
    assert read["read"] == {"mid": mid}
    assert b"a\\u00e7\\u00e3o \\ud83d\\ude42" in world.webhooks[0].raw
    for hook in world.webhooks:
        digest = hmac.new(MAIN.app_secrets[0].encode(), hook.raw, hashlib.sha256).hexdigest()
        assert (hook.account, hook.signature) == ("main", f"sha256={digest}")
        assert hook.raw.isascii()
        body = json.loads(hook.raw)
        assert (body["object"], body["entry"][0]["id"]) == ("instagram", MAIN.ig_id)


async def test_an_echo_shows_attachment_and_reply(world: World) -> None:
    """A file that went out is shown as a file, a reply as a reply."""
    await world.send(attached(url=LINK) | {"reply_to": {"mid": "aWdf.x"}})
    await world.until(lambda: len(world.items()) == 2)
    shown = world.items()[0]["message"]
    assert "text" not in shown
    assert shown["attachments"] == [{"type": "image", "payload": {"url": LINK}}]
    assert shown["reply_to"] == {"mid": "aWdf.x"}


async def test_the_other_secret_can_sign(world: World) -> None:
    """Which of the app's secrets signs is a switch."""
    await world.control("PATCH", "settings", {"signed_by": "last"})
    await world.write()
    await world.until(lambda: bool(world.webhooks))
    (hook,) = world.webhooks
    digest = hmac.new(MAIN.app_secrets[1].encode(), hook.raw, hashlib.sha256).hexdigest()
    assert hook.signature == f"sha256={digest}"


async def test_a_customer_writes_to_an_account(world: World) -> None:
    """What a customer writes comes to that account's address, with its reply and a new name."""
    mid = await world.write(account="second", text="oi 🙂", reply_to="aWdf.x")
    await world.until(lambda: bool(world.items()))
    (item,) = world.items()
    assert world.webhooks[0].account == "second"
    assert (item["sender"]["id"], item["recipient"]["id"]) == (CUSTOMER, SECOND.ig_id)
    assert item["message"] == {"mid": mid, "text": "oi 🙂", "reply_to": {"mid": "aWdf.x"}}
    assert b"\\ud83d\\ude42" in world.webhooks[0].raw


async def test_many_updates_come_in_few_webhooks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items that become due together share a request, each once."""
    monkeypatch.setattr(simulator_webhooks, "FLUSH_INTERVAL_S", 0.2)
    mids = [await world.write(customer=str(1000 + n % 2)) for n in range(20)]
    await world.until(lambda: len(world.items()) == 20)
    assert sorted(item["message"]["mid"] for item in world.items()) == sorted(mids)
    assert len(set(mids)) == 20
    assert len(world.webhooks) < 10


ACTIONS: dict[str, Any] = {
    "typing": ({"sender_action": "typing_on"}, 200),
    "seen": ({"sender_action": "mark_seen"}, 200),
    "reaction": ({"sender_action": "react", "payload": {"reaction": "love"}}, 200),
    "reaction to nothing": ({"sender_action": "react"}, 400),
    "typing about a message": (
        {"sender_action": "typing_on", "payload": {"reaction": "love"}},
        400,
    ),
    "unknown action": ({"sender_action": "shout"}, 400),
    "with a message": ({"sender_action": "typing_on", "message": {"text": "a"}}, 400),
}


@pytest.mark.parametrize(("action", "expected"), ACTIONS.values(), ids=ACTIONS)
async def test_an_action_is_no_message(world: World, action: Body, expected: int) -> None:
    """A documented action is answered; nothing is told of it."""
    mid = await world.write()
    body = {"recipient": {"id": CUSTOMER}} | action
    if "payload" in action:
        body["payload"] = {"message_id": mid} | action["payload"]
    status, answer = await world.send(body)
    assert status == expected
    if expected == 200:
        assert answer == {"recipient_id": CUSTOMER}
        assert await world.receipts() == []


async def test_a_reaction_needs_a_message_of_the_conversation(world: World) -> None:
    """Another account's, another customer's and no message at all are refused."""
    others = [await world.write(account="second"), await world.write(customer="999"), "aWdf", "é"]
    for mid in others:
        body = {
            "recipient": {"id": CUSTOMER},
            "sender_action": "react",
            "payload": {"message_id": mid, "reaction": "love"},
        }
        status, answer = await world.send(body)
        assert (status, answer["error"]["code"]) == (400, 100)


async def test_a_customer_is_known_when_they_wrote_to_this_account(world: World) -> None:
    """When switched on, an id means nobody before its customer wrote, and only to that account."""
    assert (await world.send(text()))[0] == 200
    await world.control("PATCH", "settings", {"known_users": "wrote-first"})
    await world.write(account="second")
    for body in (text(), {"recipient": {"id": CUSTOMER}, "sender_action": "typing_on"}):
        status, answer = await world.send(body)
        error = answer["error"]
        assert (status, error["code"], error["error_subcode"]) == (400, 100, 2534014)
    assert (await world.send(text(), SECOND))[0] == 200
    await world.write()
    assert (await world.send(text()))[0] == 200


async def test_the_window_can_be_enforced(world: World, clock: Clock) -> None:
    """Who never wrote, or not lately, is not written to; a person has longer than a machine."""
    await world.control("PATCH", "settings", {"enforce_window": "answer"})
    for wait_s, by_machine, by_person in (
        (None, 400, 400),
        (86_400, 200, 200),
        (86_401, 400, 200),
        (7 * 86_400, 400, 200),
        (7 * 86_400 + 1, 400, 400),
    ):
        if wait_s is not None:
            await world.write()
            clock.now += wait_s
        for tag, expected in ((None, by_machine), ("HUMAN_AGENT", by_person)):
            status, answer = await world.send(text(tag=tag))
            assert status == expected
            if status == 400:
                error = answer["error"]
                assert (error["code"], error["error_subcode"]) == (10, 2534022)


def test_silence_is_counted_from_a_customers_last_message() -> None:
    """Each customer of each account has their own; who never wrote was always silent."""
    customers = Customers()
    customers.wrote("main", "1", 100.0)
    customers.wrote("main", "1", 200.0)
    assert customers.silence_s("main", "1", 250.0) == 50.0
    for account, customer in (("main", "2"), ("second", "1")):
        assert customers.silence_s(account, customer, 250.0) == float("inf")
        assert not customers.knows(account, customer)


async def test_the_handshake_precedes_webhooks(world: World) -> None:
    """Each account's address is verified with its token at the start and on command."""
    assert (await world.control("POST", "verify", {"account": "second"}))["verified"]
    tokens = {query["hub.verify_token"] for query in world.challenges}
    assert tokens <= {MAIN.verify_token, SECOND.verify_token}
    assert SECOND.verify_token in tokens
    assert {query["hub.mode"] for query in world.challenges} == {"subscribe"}


async def test_a_raw_webhook_keeps_its_bytes(world: World) -> None:
    """A webhook of the test's own is signed as it stands and the answer is reported."""
    body = {"account": "main", "body": {"object": "x"}}
    assert (await world.control("POST", "webhooks", body))["status"] == 200
    assert json.loads(world.webhooks[0].raw) == {"object": "x"}


async def test_receipts_survive_a_restart(tmp_path: Path) -> None:
    """The witness goes on counting."""
    for _ in range(2):
        async with simulator(tmp_path) as world:
            await world.send(text())
            seqs = [receipt["seq"] for receipt in await world.receipts()]
    assert seqs == [1, 2]
