"""What recorded updates of the Bot API say."""

import msgspec
import pytest

from services.connectors.base import InboundMessage
from services.connectors.telegram.payloads import updates


def message(**changes: object) -> dict[str, object]:
    """Return a recorded text message, with changes; None leaves a key out."""
    body: dict[str, object] = {
        "message_id": 17,
        "from": {
            "id": 5511999990000,
            "is_bot": False,
            "first_name": "Ana",
            "last_name": "Lima",
            "username": "ana",
            "language_code": "pt-br",
        },
        "chat": {"id": 5511999990000, "first_name": "Ana", "type": "private"},
        "date": 1712345678,
        "text": "oi",
    }
    return {key: value for key, value in (body | changes).items() if value is not None}


def parsed(update: object) -> list[InboundMessage]:
    """Return what a webhook with this JSON says."""
    found = updates(msgspec.json.encode(update))
    assert all(isinstance(one, InboundMessage) for one in found)
    return [one for one in found if isinstance(one, InboundMessage)]


def test_a_text_is_read() -> None:
    """Who wrote what, when, where and in reply to what; nothing is kept raw."""
    original = {"message_id": 16, "chat": {"id": 5511999990000}, "date": 1, "text": "?"}
    update = {"update_id": 1, "message": message(reply_to_message=original)}
    (found,) = parsed(update)
    assert (found.provider_id, found.address) == ("5511999990000:17", "5511999990000")
    assert (found.content, found.sender_name, found.raw) == ("oi", "Ana Lima", None)
    assert found.reply_to_provider_id == "5511999990000:16"
    assert found.at.isoformat() == "2024-04-05T19:34:38+00:00"
    assert parsed(update) == [found]


PHOTO = [{"file_id": "a", "file_unique_id": "b", "width": 1, "height": 1, "file_size": 1}]
GROUP = {"id": -1001234567890, "title": "Support", "type": "supergroup"}


def test_a_caption_is_shown_and_its_picture_kept() -> None:
    """The caption is content; what it stands under stays raw."""
    update = {"update_id": 1, "message": message(text=None, photo=PHOTO, caption="look")}
    (found,) = parsed(update)
    assert found.content == "look"
    assert msgspec.json.decode(found.raw or "") == update


def test_a_group_is_one_address() -> None:
    """What members of a group write comes from the group, by its title."""
    (found,) = parsed({"update_id": 1, "message": message(chat=GROUP)})
    assert (found.address, found.sender_name) == ("-1001234567890", "Support")
    assert found.provider_id == "-1001234567890:17"


HAPPENED: dict[str, tuple[dict[str, object], str]] = {
    "photo": ({"message": message(text=None, photo=PHOTO)}, "5511999990000:17"),
    "sticker": ({"message": message(text=None, sticker={"file_id": "a"})}, "5511999990000:17"),
    "location": ({"message": message(text=None, location={})}, "5511999990000:17"),
    "new members": (
        {"message": message(text=None, chat=GROUP, new_chat_members=[{}])},
        "-1001234567890:17",
    ),
    "anonymous": (
        {"message": message(text=None, chat=GROUP, **{"from": None})},
        "-1001234567890:17",
    ),
    "edit": (
        {"edited_message": message(edit_date=1712345999, text="oi!")},
        "5511999990000:17:1",
    ),
    "pressed button": (
        {"callback_query": {"id": "1", "from": {"id": 5}, "message": message(), "data": "yes"}},
        "5511999990000:17:1",
    ),
    "reaction": (
        {
            "message_reaction": {
                "chat": {"id": 5511999990000, "type": "private"},
                "message_id": 17,
                "user": {"id": 5511999990000, "is_bot": False, "first_name": "Ana"},
                "date": 1712345999,
                "old_reaction": [],
                "new_reaction": [{"type": "emoji", "emoji": "👍"}],
            }
        },
        "5511999990000:17:1",
    ),
}


@pytest.mark.parametrize(("kind", "name"), HAPPENED.values(), ids=HAPPENED)
def test_what_cannot_be_shown_is_kept_raw(kind: dict[str, object], name: str) -> None:
    """It has its sender's chat and one name on every redelivery, and all that came."""
    update = {"update_id": 1, **kind}
    (found,) = parsed(update)
    (again,) = parsed(update)
    assert found.content is None
    assert msgspec.json.decode(found.raw or "") == update
    assert found.provider_id == again.provider_id == name
    assert name.startswith(f"{found.address}:")


CHANNEL = {"id": -1009, "title": "News", "type": "channel"}
IGNORED: dict[str, dict[str, object]] = {
    "channel post": {"channel_post": message(chat=CHANNEL)},
    "message of a channel": {"message": message(chat=CHANNEL)},
    "edit in a channel": {"edited_message": message(chat=CHANNEL)},
    "blocked or unblocked": {
        "my_chat_member": {
            "chat": message()["chat"],
            "from": message()["from"],
            "date": 1712345678,
            "old_chat_member": {"status": "member"},
            "new_chat_member": {"status": "kicked"},
        }
    },
    "button of an inline message": {
        "callback_query": {"id": "1", "from": {"id": 5}, "inline_message_id": "x", "data": "yes"}
    },
    "inline query": {"inline_query": {"id": "1", "from": {"id": 5}, "query": "", "offset": ""}},
    "poll": {"poll": {"id": "1"}},
    "kind of the future": {"telepathy": {"thought": "oi"}},
}


@pytest.mark.parametrize("kind", IGNORED.values(), ids=IGNORED)
def test_what_nobody_said_to_us_is_no_message(kind: dict[str, object]) -> None:
    """Updates about anything but a chat's messages are read over."""
    assert parsed({"update_id": 1, **kind}) == []


SENSELESS: dict[str, object] = {
    "text": "nonsense",
    "list": [1],
    "nothing": None,
    "no number": {"message": message()},
    "no message": {"update_id": 1, "message": "oi"},
    "no chat": {"update_id": 1, "message": message(chat=None)},
    "chat by name": {"update_id": 1, "message": message(chat={"id": "ana", "type": "private"})},
    "no date": {"update_id": 1, "message": message(date=None)},
    "date beyond time": {"update_id": 1, "message": message(date=10**18)},
    "date before time": {"update_id": 1, "message": message(date=-1)},
    "text is a number": {"update_id": 1, "message": message(text=5)},
}


@pytest.mark.parametrize("update", SENSELESS.values(), ids=SENSELESS)
def test_what_makes_no_sense_is_kept(update: object) -> None:
    """It was signed, so it is kept as it came, under one name on every redelivery."""
    (found,) = parsed(update)
    (again,) = parsed(update)
    assert found.content is None
    assert msgspec.json.decode(found.raw or "") == update
    assert found.provider_id == again.provider_id


@pytest.mark.parametrize("where", [b"message", b"unheard_of"])
def test_depth_is_no_way_to_break_in(where: bytes) -> None:
    """JSON nested beyond all measure is kept like any other nonsense."""
    deep = b"[" * 100_000 + b"]" * 100_000
    (found,) = updates(b'{"update_id":1,"%b":%b}' % (where, deep))
    assert found.provider_id.startswith("sha256:")


@pytest.mark.parametrize("raw", [b"", b"{", b"oi", b'{"a":"\xff"}', b'{"update_id":1}x'])
def test_what_is_not_json_is_refused(raw: bytes) -> None:
    """Bytes that are not JSON are the only thing that is not taken."""
    with pytest.raises(msgspec.DecodeError):
        updates(raw)
