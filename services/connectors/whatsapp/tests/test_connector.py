"""The WhatsApp connector against recorded payloads and every documented error code."""

import hmac
import json
from hashlib import sha256

import msgspec
import pytest
from multidict import CIMultiDict

from services.connectors.base import (
    Accepted,
    Delivery,
    InboundMessage,
    SendError,
    StatusUpdate,
    Verdict,
)
from services.connectors.tests.doubles import TOLD, OneAnswer
from services.connectors.whatsapp.config import Config, random_account
from services.connectors.whatsapp.connector import WhatsApp
from services.connectors.whatsapp.errors import VERDICTS
from services.contracts.status import Status

ACCOUNT = random_account()
DELIVERY = Delivery(
    account="main",
    address="5511999990000",
    content="Olá 👋",
    reference="ours",
    reply_to_provider_id="wamid.before",
)


def connector(status: int = 200, body: object = None) -> tuple[WhatsApp, OneAnswer]:
    """Return a connector with one account, before a provider with one answer."""
    http = OneAnswer(status, body)
    config = Config(
        **TOLD,
        accounts={"main": ACCOUNT},
    )
    return WhatsApp(config, http), http


def test_the_channel_says_what_it_can() -> None:
    """Every step is told, and a number is the same person for every account."""
    assert (WhatsApp.name, WhatsApp.account_scoped) == ("WHATSAPP", False)
    assert WhatsApp.capabilities.receipts == (Status.SENT, Status.DELIVERED, Status.READ)


async def test_a_text_is_sent_as_documented() -> None:
    """The request has the documented shape, our reference, the reply context and the token."""
    channel, http = connector(200, {"messages": [{"id": "wamid.1"}]})
    assert await channel.send(DELIVERY) == Accepted("wamid.1")
    method, path, headers, body = http.asked[0]
    assert (method, path) == ("POST", f"/v23.0/{ACCOUNT.phone_number_id}/messages")
    assert headers["Authorization"] == f"Bearer {ACCOUNT.access_token}"
    assert msgspec.json.decode(body or b"") == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "5511999990000",
        "type": "text",
        "text": {"body": "Olá 👋", "preview_url": False},
        "context": {"message_id": "wamid.before"},
        "biz_opaque_callback_data": "ours",
    }


@pytest.mark.parametrize("code", sorted(VERDICTS.keys() - range(201, 300)))
async def test_the_code_decides_not_the_http_status(code: int) -> None:
    """Every documented code has one verdict, whatever HTTP status it comes with."""
    for status in (400, 401, 403, 404, 429, 500, 503):
        channel, _ = connector(status, {"error": {"message": "why", "code": code}})
        outcome = await channel.send(DELIVERY)
        assert isinstance(outcome, SendError)
        assert outcome.verdict is VERDICTS[code]
        assert outcome.code == f"provider_{code}"
        assert outcome.retry_after_s == (7.0 if outcome.verdict is Verdict.THROTTLED else None)


async def test_an_answer_that_names_no_message_is_ambiguous() -> None:
    """A 200 without a message id may have sent it."""
    nul = {"messages": [{"id": "a\0b"}]}
    bodies: list[object] = [{}, {"messages": []}, nul, "<html>", {"error": {"code": 100}}]
    for body in bodies:
        channel, _ = connector(200, body)
        outcome = await channel.send(DELIVERY)
        assert isinstance(outcome, SendError)
        assert outcome.verdict is Verdict.AMBIGUOUS


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, Verdict.FINAL),
        (401, Verdict.ACCOUNT),
        (404, Verdict.FINAL),
        (429, Verdict.THROTTLED),
        (500, Verdict.AMBIGUOUS),
        (502, Verdict.AMBIGUOUS),
    ],
)
async def test_an_answer_without_a_code_goes_by_its_status(status: int, verdict: Verdict) -> None:
    """A proxy's error page says nothing of the message; a server error may have processed it."""
    channel, _ = connector(status, "<html>")
    outcome = await channel.send(DELIVERY)
    assert isinstance(outcome, SendError)
    assert outcome.verdict is verdict


def sign(raw: bytes, secret: str = ACCOUNT.app_secret) -> CIMultiDict[str]:
    """Return the headers of a webhook with these bytes."""
    digest = hmac.new(secret.encode(), raw, sha256).hexdigest()
    return CIMultiDict({"x-hub-signature-256": f"sha256={digest}"})


def test_the_signature_is_over_the_raw_bytes() -> None:
    """One byte more, another secret, no header, a bare digest: each is refused."""
    channel, _ = connector()
    raw = b'{"a":"\\u00e9"}'
    assert channel.verify("main", raw, sign(raw), {})
    bare = CIMultiDict({"X-Hub-Signature-256": sign(raw)["x-hub-signature-256"][7:]})
    for body, headers in [
        (raw + b" ", sign(raw)),
        (raw, sign(raw, "another")),
        (raw, CIMultiDict[str]()),
        (raw, bare),
        (raw, CIMultiDict({"X-Hub-Signature-256": "sha256=é"})),
    ]:
        assert not channel.verify("main", body, headers, {})


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({}, "0042"),
        ({"hub.verify_token": "wrong"}, None),
        ({"hub.verify_token": ""}, None),
        ({"hub.mode": "unsubscribe"}, None),
    ],
)
def test_the_challenge_is_opaque(change: dict[str, str], answer: str | None) -> None:
    """The challenge comes back as it came, and only for the right token and mode."""
    channel, _ = connector()
    query = {
        "hub.mode": "subscribe",
        "hub.verify_token": ACCOUNT.verify_token,
        "hub.challenge": "0042",
    }
    assert channel.challenge("main", query | change) == answer


def webhook(*values: object, number: str = ACCOUNT.phone_number_id) -> bytes:
    """Return a webhook with one change for each value."""
    metadata = {"display_phone_number": "1555", "phone_number_id": number}
    changes = [
        {
            "field": "messages",
            "value": {"messaging_product": "whatsapp", "metadata": metadata, **dict(value)},  # type: ignore[call-overload]
        }
        for value in values
    ]
    body = {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}
    return msgspec.json.encode(body)


TEXT = {
    "from": "5511999990000",
    "id": "wamid.in",
    "timestamp": "1712345678",
    "type": "text",
    "text": {"body": "oi"},
    "context": {"from": "1555", "id": "wamid.1"},
}
CONTACTS = [{"profile": {"name": "Ana"}, "wa_id": "5511999990000"}]
READ = {
    "id": "wamid.1",
    "status": "read",
    "timestamp": "1712345678",
    "recipient_id": "5511999990000",
    "biz_opaque_callback_data": "ours",
}


def test_every_update_of_a_batch_is_returned() -> None:
    """Several messages and statuses, in several changes, are all there."""
    channel, _ = connector()
    raw = webhook(
        {"contacts": CONTACTS, "messages": [TEXT, {**TEXT, "id": "wamid.2"}]},
        {"statuses": [READ, {**READ, "status": "delivered"}], "messages": [TEXT]},
    )
    updates = channel.parse_webhook("main", raw)
    assert updates is not None
    assert [type(update).__name__ for update in updates] == [
        "InboundMessage",
        "InboundMessage",
        "InboundMessage",
        "StatusUpdate",
        "StatusUpdate",
    ]
    first = updates[0]
    assert isinstance(first, InboundMessage)
    assert (first.content, first.sender_name, first.address) == ("oi", "Ana", "5511999990000")
    assert first.reply_to_provider_id == "wamid.1"
    status = updates[3]
    assert isinstance(status, StatusUpdate)
    assert (status.status, status.reference) == (Status.READ, "ours")


def test_a_failure_says_why() -> None:
    """A failed status carries the provider's code and its sentence."""
    channel, _ = connector()
    error = {"code": 131047, "title": "t", "error_data": {"details": "Outside 24 hours."}}
    updates = channel.parse_webhook(
        "main", webhook({"statuses": [{**READ, "status": "failed", "errors": [error]}]})
    )
    assert updates is not None
    update = updates[0]
    assert isinstance(update, StatusUpdate)
    assert update.reason is not None
    assert (update.reason.code, update.reason.detail) == ("provider_131047", "Outside 24 hours.")


@pytest.mark.parametrize(
    "message",
    [
        {"id": "wamid.9", "from": "55", "timestamp": "1", "type": "image", "image": {"id": "1"}},
        {"id": "wamid.9", "from": "55", "timestamp": "1", "type": "unsupported"},
        {"id": "wamid.9", "from_user_id": "US.1", "timestamp": 1, "type": "reaction"},
        {"no": "message"},
        {"id": 7, "timestamp": "never", "type": "text"},
        pytest.param({**TEXT, "id": ""}, id="no name"),
        pytest.param({**TEXT, "id": "a\0b"}, id="name with a NUL"),
        pytest.param({**TEXT, "id": "w" * 513}, id="name too long"),
        pytest.param({**TEXT, "from": "5\x005"}, id="sender with a NUL"),
        pytest.param({**TEXT, "context": {"id": "a\0b"}}, id="reply with a NUL"),
        "nonsense",
    ],
)
def test_what_is_not_understood_is_kept_raw(message: object) -> None:
    """A kind this version cannot show is kept as it came, never dropped and never an error."""
    channel, _ = connector()
    updates = channel.parse_webhook("main", webhook({"messages": [message]}))
    assert updates is not None
    kept = updates[0]
    assert isinstance(kept, InboundMessage)
    assert kept.content is None
    assert msgspec.json.decode(kept.raw or "") == message


@pytest.mark.parametrize("name", ["", "a\0b", "w" * 513])
def test_a_status_of_what_has_no_name_says_nothing(name: str) -> None:
    """It is left out, and the rest of its webhook is there."""
    channel, _ = connector()
    raw = webhook({"statuses": [{**READ, "id": name}, READ]})
    (update,) = channel.parse_webhook("main", raw) or []
    assert isinstance(update, StatusUpdate)
    assert update.provider_id == READ["id"]


def test_a_webhook_for_another_number_is_refused() -> None:
    """Nothing of a webhook is taken when it is for a number that is not this account's."""
    channel, _ = connector()
    raw = webhook({"messages": [TEXT]}, number="999999999999999")
    assert channel.parse_webhook("main", raw) is None


@pytest.mark.parametrize("escape", [rb"\ud83d", rb"\ude00", rb"\ud83d\u0041", b"\xff", b"\xc3"])
def test_half_a_character_costs_nothing_but_itself(escape: bytes) -> None:
    """Half a surrogate pair or a bad byte is replaced; the rest of the batch is there."""
    channel, _ = connector()
    spoken = {**TEXT, "text": {"body": "oi @"}}
    wordless = {**TEXT, "type": "image", "image": {"caption": "@"}}
    raw = webhook({"messages": [spoken, wordless], "statuses": [READ]}).replace(b"@", escape)
    first, second, third = channel.parse_webhook("main", raw) or []
    assert isinstance(first, InboundMessage)
    assert (first.content or "").startswith(("oi ?", "oi \ufffd"))
    assert isinstance(second, InboundMessage)
    assert json.loads(second.raw or "")["id"] == "wamid.in"
    assert isinstance(third, StatusUpdate)
    assert msgspec.json.encode([first, second])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"hello": "world"}, id="no webhook"),
        pytest.param([webhook({}).decode()], id="a list"),
        pytest.param(5, id="a number"),
        pytest.param(None, id="nothing"),
        pytest.param({"object": "x", "entry": {"id": "1"}}, id="entry is no list"),
        pytest.param({"object": "x", "entry": [7]}, id="an entry is a number"),
        pytest.param({"object": "x", "entry": [{"changes": ["?"]}]}, id="a change is text"),
        pytest.param(
            {"object": "x", "entry": [{"changes": [{"field": "messages", "value": 1}]}]},
            id="a value is a number",
        ),
    ],
)
def test_a_body_that_makes_no_sense_is_kept_raw(body: object) -> None:
    """What is signed is not lost, whatever it is, and its repetition has the same name."""
    channel, _ = connector()
    raw = msgspec.json.encode(body)
    (kept,) = channel.parse_webhook("main", raw) or []
    assert isinstance(kept, InboundMessage)
    assert (kept.content, kept.address) == (None, "unknown")
    assert (kept.raw or "") in raw.decode()
    (again,) = channel.parse_webhook("main", json.dumps(body, indent=1).encode()) or []
    assert isinstance(again, InboundMessage)
    assert again.provider_id == kept.provider_id


@pytest.mark.parametrize("raw", [b"", b"{", b"{} {}", b"\x00\xff", b"[" * 100_000])
def test_what_is_no_json_is_an_error_of_one_kind(raw: bytes) -> None:
    """Only DecodeError is raised, for the caller to refuse the body."""
    channel, _ = connector()
    with pytest.raises(msgspec.DecodeError):
        channel.parse_webhook("main", raw)


def test_other_fields_of_a_subscription_are_no_updates() -> None:
    """Changes of other fields are read over."""
    channel, _ = connector()
    change = {"field": "account_update", "value": {"event": "VERIFIED_ACCOUNT"}}
    body = {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}
    assert channel.parse_webhook("main", msgspec.json.encode(body)) == []
