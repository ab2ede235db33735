"""What the Instagram connector reads out of webhooks."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from services.connectors.base import Echo, InboundMessage, StatusUpdate, Update
from services.connectors.instagram.payloads import updates
from services.connectors.instagram.tests.recorded import (
    AT_MS,
    CUSTOMER,
    DELETION,
    EDIT,
    EDIT_OF_NOTHING,
    IG_ID,
    INWARDS,
    OUTWARDS,
    PICTURE,
    POSTBACK,
    REACTION,
    READ,
    REFERRAL,
    STORY,
    UNREACTION,
    Item,
    echo,
    message,
    webhook,
)
from services.contracts.status import Status

AT = datetime.fromtimestamp(AT_MS / 1000, UTC)


def read(body: object) -> list[Update]:
    """Return the updates of a webhook for the account."""
    found = updates(msgspec.json.encode(body), IG_ID)
    assert found is not None
    return found


def inbound(body: object) -> InboundMessage:
    """Return the only update of a webhook, which is a customer's."""
    (found,) = read(body)
    assert isinstance(found, InboundMessage)
    return found


WORDS = {
    "text": (message(), "aWdf.in", "oi", None),
    "quick reply": (message(quick_reply={"payload": "YES"}), "aWdf.in", "oi", None),
    "reply": (message(reply_to={"mid": "aWdf.out"}), "aWdf.in", "oi", "aWdf.out"),
    "reply of another release": (
        message(reply_to={"mid": "aWdf.out", "is_self_reply": False}),
        "aWdf.in",
        "oi",
        "aWdf.out",
    ),
    "reply to a story": (message(reply_to=STORY), "aWdf.in", "oi", None),
    "text with a picture": (message(attachments=PICTURE), "aWdf.in", "oi", None),
    "postback": (POSTBACK, "aWdf.post", "Talk to a person", None),
    "edit": (EDIT, None, "oi!", "aWdf.in"),
    "number as id": (message() | {"sender": {"id": int(CUSTOMER)}}, "aWdf.in", "oi", None),
    "time as text": (message() | {"timestamp": str(AT_MS)}, "aWdf.in", "oi", None),
}
SAID_COMPLETELY = {"text", "reply", "reply of another release", "number as id", "time as text"}


@pytest.mark.parametrize("label", WORDS)
def test_words_are_the_content(label: str) -> None:
    """What a customer said is the content; whatever else came with it is kept raw."""
    item, name, content, reply_to = WORDS[label]
    found = inbound(webhook(item))
    assert (found.content, found.address, found.at) == (content, CUSTOMER, AT)
    assert found.provider_id == name or (name is None and found.provider_id.startswith("sha256:"))
    assert found.reply_to_provider_id == reply_to
    assert (found.raw is None) == (label in SAID_COMPLETELY)
    assert found.raw is None or json.loads(found.raw) == item


WORDLESS = {
    "attachment": (message(text=None, attachments=PICTURE), "aWdf.in", None),
    "empty text": (message(text=""), "aWdf.in", None),
    "story mention": (
        message(text=None, attachments=[{"type": "story_mention", "payload": {"url": "x"}}]),
        "aWdf.in",
        None,
    ),
    "unsupported": (message(text=None, is_unsupported=True), "aWdf.in", None),
    "unsupported with text": (message(is_unsupported=True), "aWdf.in", None),
    "deletion": (DELETION, None, "aWdf.in"),
    "reaction": (REACTION, None, "aWdf.out"),
    "reaction taken back": (UNREACTION, None, "aWdf.out"),
    "edit of nothing": (EDIT_OF_NOTHING, None, "aWdf.in"),
    "edit that is the message": (
        INWARDS | {"message_edit": {"mid": "aWdf.in", "text": "oi", "num_edit": 0}},
        None,
        "aWdf.in",
    ),
    "referral": (REFERRAL, None, None),
    "postback of an old version": (INWARDS | {"postback": {"payload": "HUMAN"}}, None, None),
    "a kind of the future": (INWARDS | {"telepathy": {"mid": "aWdf.in"}}, None, None),
}


@pytest.mark.parametrize(("item", "name", "about"), WORDLESS.values(), ids=WORDLESS)
def test_what_has_no_words_is_kept_raw(item: Item, name: str | None, about: str | None) -> None:
    """It is the customer's, has no content, and names the message it is about."""
    found = inbound(webhook(item))
    assert (found.content, found.address, found.at) == (None, CUSTOMER, AT)
    assert json.loads(found.raw or "") == item
    assert found.reply_to_provider_id == about
    assert found.provider_id == name or (name is None and found.provider_id.startswith("sha256:"))


def test_what_has_no_name_is_named_by_its_contents() -> None:
    """A repetition has the same name; what is different has another, and never a message's."""
    items = [REACTION, UNREACTION, DELETION, EDIT, EDIT_OF_NOTHING, REFERRAL, message(), POSTBACK]
    names = [inbound(webhook(item)).provider_id for item in items]
    assert len(set(names)) == len(items)
    assert names == [inbound(webhook(item, entry_id="7")).provider_id for item in items]
    later = REACTION | {"timestamp": AT_MS + 1}
    assert inbound(webhook(later)).provider_id not in names


def test_a_reading_is_a_status() -> None:
    """`read` names our message and says READ."""
    assert read(webhook(READ)) == [
        StatusUpdate(provider_id="aWdf.out", status=Status.READ, at=AT),
    ]


def test_an_echo_is_evidence_of_a_send() -> None:
    """It has the message's name, the customer it went to and its exact text."""
    assert read(webhook(echo())) == [
        Echo(provider_id="aWdf.out", address=CUSTOMER, content="Olá 👋", at=AT),
    ]


NO_NEWS = {
    "echo of a picture": echo(text=None, attachments=PICTURE),
    "echo of a deleted message": echo(is_deleted=True),
    "our own notes": echo(is_self=True) | {"recipient": {"id": IG_ID}},
    "our own notes, not an echo": message(is_self=True),
    "our reaction": OUTWARDS | {"reaction": {"mid": "aWdf.in", "action": "react"}},
    "our edit": OUTWARDS | {"message_edit": {"mid": "aWdf.out", "text": "!", "num_edit": 1}},
}


@pytest.mark.parametrize("item", NO_NEWS.values(), ids=NO_NEWS)
def test_our_own_doing_is_no_news(item: Item) -> None:
    """What the account itself did, and what is not evidence of a text, says nothing here."""
    assert read(webhook(item)) == []


def test_every_item_of_every_entry_is_returned_in_order() -> None:
    """Several items in several entries are all there."""
    body = webhook(message(), READ)
    body["entry"] += webhook(echo(), POSTBACK)["entry"]
    kinds = [type(update).__name__ for update in read(body)]
    assert kinds == ["InboundMessage", "StatusUpdate", "Echo", "InboundMessage"]


def test_the_item_says_whose_it_is() -> None:
    """The entry's id decides nothing: in some documented samples it is the customer's."""
    for item in (message(), READ, POSTBACK, REFERRAL, echo()):
        assert len(read(webhook(item, entry_id=CUSTOMER))) == 1


STRANGERS = {
    "message": message() | {"recipient": {"id": "17841499999999999"}},
    "reading": READ | {"recipient": {"id": "17841499999999999"}},
    "echo": echo() | {"sender": {"id": "17841499999999999"}},
    "echo to us": echo() | {"sender": {"id": CUSTOMER}, "recipient": {"id": IG_ID}},
}


@pytest.mark.parametrize("item", STRANGERS.values(), ids=STRANGERS)
def test_nothing_is_taken_when_an_item_is_for_another_account(item: Item) -> None:
    """A webhook with such an item is refused as a whole, also behind items of ours."""
    assert updates(msgspec.json.encode(webhook(message(), item)), IG_ID) is None


NOT_OURS: dict[str, Any] = {
    "standby": {"entry": [{"id": IG_ID, "time": AT_MS, "standby": [message()]}]},
    "test of the dashboard": {
        "entry": [{"id": "0", "changes": [{"field": "messages", "value": {"sender": {}}}]}]
    },
    "no entries": {"entry": []},
    "another object": {"object": "page", "entry": webhook(message())["entry"]},
}


@pytest.mark.parametrize("body", NOT_OURS.values(), ids=NOT_OURS)
def test_what_is_not_ours_is_taken_and_forgotten(body: dict[str, Any]) -> None:
    """Another app's conversations and test events say nothing, and are no error."""
    assert read({"object": "instagram"} | body) == []


NONSENSE: dict[str, Any] = {
    "no webhook": {"hello": "world"},
    "a list": [webhook(message())],
    "a number": 5,
    "nothing": None,
    "entry is no list": {"object": "instagram", "entry": {"id": IG_ID}},
}


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE)
def test_a_body_that_makes_no_sense_is_kept_raw(body: object) -> None:
    """What is signed is not lost, whatever it is."""
    found = inbound(body)
    assert (found.content, found.address) == (None, "unknown")
    assert json.loads(found.raw or "") == body


PARTS: dict[str, Any] = {
    "text": "nonsense",
    "no parties": {"message": {"mid": "1", "text": "oi"}},
    "no name": message(mid=None),
    "empty name": message(mid=""),
    "name with a NUL": message(mid="a\x00b"),
    "name of 513 characters": message(mid="x" * 513),
    "sender with a NUL": message() | {"sender": {"id": "1\x002"}},
    "text is a number": message(text=5),
    "reading of nothing": INWARDS | {"read": {"watermark": AT_MS}},
    "null": None,
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_an_item_that_makes_no_sense_is_kept_raw_beside_the_others(part: object) -> None:
    """One bad item costs none of the others."""
    before, kept, after = read(webhook(message(), part, READ))
    assert isinstance(kept, InboundMessage)
    assert (kept.content, kept.address) == (None, "unknown")
    assert json.loads(kept.raw or "") == part
    assert isinstance(before, InboundMessage)
    assert isinstance(after, StatusUpdate)


def test_an_entry_that_makes_no_sense_is_kept_raw_beside_the_others() -> None:
    """One bad entry costs none of the others."""
    body = webhook(message())
    body["entry"] += ["nonsense", {"id": IG_ID, "messaging": "x"}]
    _, *kept = read(body)
    assert [json.loads(k.raw or "") for k in kept if isinstance(k, InboundMessage)] == (
        body["entry"][1:]
    )


@pytest.mark.parametrize("stamp", [10**30, -(10**30), "never", "9" * 5000, ""])
def test_a_time_that_cannot_be_is_now(stamp: object) -> None:
    """A message is not lost for its timestamp."""
    before = datetime.now(UTC)
    assert before <= inbound(webhook(message() | {"timestamp": stamp})).at <= datetime.now(UTC)


@pytest.mark.parametrize("escape", [rb"\ud83d", rb"\ude00", rb"\ud83d\u0041", rb"\ud83dA"])
def test_half_an_emoji_costs_nothing_but_itself(escape: bytes) -> None:
    """What is half a surrogate pair becomes a question mark; the rest of the batch is there."""
    raw = msgspec.json.encode(webhook(message(text="oi @"), READ)).replace(b"@", escape)
    first, second = updates(raw, IG_ID) or []
    assert isinstance(first, InboundMessage)
    assert (first.content or "").startswith("oi ?")
    assert isinstance(second, StatusUpdate)


def test_escaped_text_is_read() -> None:
    """The provider escapes what is beyond ASCII."""
    raw = json.dumps(webhook(message(text="ação 🙂"))).encode()
    assert raw.isascii()
    (found,) = updates(raw, IG_ID) or []
    assert isinstance(found, InboundMessage)
    assert found.content == "ação 🙂"


NO_JSON = {
    "empty": b"",
    "cut": b'{"object":"instagram","entry":[',
    "two": b"{} {}",
    "not UTF-8": b'{"object":"instagram","a":"\xff"}',
    "bytes": b"\x00\xff",
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("raw", NO_JSON.values(), ids=NO_JSON)
def test_what_is_no_json_is_an_error_of_one_kind(raw: bytes) -> None:
    """Only DecodeError is raised, for the caller to refuse the body."""
    with pytest.raises(msgspec.DecodeError):
        updates(raw, IG_ID)
