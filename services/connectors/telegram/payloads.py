"""The Telegram Bot API's JSON: what is sent, what is answered, what updates say.

A message's number counts within its chat only, so the name of a message is `chat:number`; what
happens to a message later (an edit, a reaction, a pressed button) adds the number of its update.

Updates are read leniently: the provider adds fields and kinds at any time, and nothing that was
signed may be lost. What cannot be read as a known kind is kept raw; an update that tells nothing
that a customer said or did in a chat is none of ours.
"""

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from services.connectors.base import Delivery, InboundMessage, Update

ALLOWED_UPDATES = ("message", "edited_message", "message_reaction", "callback_query")
"""The kinds of updates that become inbound messages; no others are asked for."""
_CHATS = ("private", "group", "supergroup")
_Seconds = Annotated[int, Meta(ge=0, le=250_000_000_000)]
"""A Unix time that a date can show."""


class Parameters(Struct, frozen=True):
    """What an error says besides its sentence."""

    retry_after: float | None = None
    migrate_to_chat_id: int | None = None


class Envelope(Struct, frozen=True):
    """What every answer is wrapped in."""

    ok: bool
    result: msgspec.Raw = msgspec.Raw()
    error_code: int = 0
    description: str = ""
    parameters: Parameters = Parameters()


class WebhookInfo(Struct, frozen=True):
    """Where the provider sends a bot's updates."""

    url: str = ""
    allowed_updates: tuple[str, ...] = ()
    last_error_message: str = ""


class _Chat(Struct, frozen=True):
    id: int
    type: str = ""
    title: str | None = None


class Sent(Struct, frozen=True):
    """The message that was made of what we sent."""

    message_id: int
    chat: _Chat


class _User(Struct, frozen=True):
    first_name: str = ""
    last_name: str = ""


class _Replied(Struct, frozen=True):
    message_id: int


class _Message(Struct, frozen=True, rename={"sender": "from"}):
    message_id: int
    chat: _Chat
    date: _Seconds
    edit_date: _Seconds | None = None
    sender: _User | None = None
    user: _User | None = None
    text: str | None = None
    caption: str | None = None
    reply_to_message: _Replied | None = None


class _Callback(Struct, frozen=True, rename={"sender": "from"}):
    sender: _User
    message: _Message | None = None


class _Update(Struct, frozen=True):
    update_id: int
    message: _Message | None = None
    edited_message: _Message | None = None
    message_reaction: _Message | None = None
    callback_query: _Callback | None = None


def text_message(delivery: Delivery) -> bytes:
    """Return the parameters that send a text; a lost original does not hold the reply back."""
    body: dict[str, Any] = {"chat_id": delivery.address, "text": delivery.content}
    chat, number = _named(delivery.reply_to_provider_id)
    if chat == delivery.address:
        body["reply_parameters"] = {"message_id": number, "allow_sending_without_reply": True}
    return msgspec.json.encode(body)


def set_webhook(url: str, secret_token: str) -> bytes:
    """Return the parameters that ask for a bot's updates."""
    return msgspec.json.encode(
        {"url": url, "secret_token": secret_token, "allowed_updates": ALLOWED_UPDATES}
    )


def migrated_to(body: bytes) -> int | None:
    """Return the chat that a group became, when an error says that it became another."""
    try:
        return msgspec.json.decode(body, type=Envelope).parameters.migrate_to_chat_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def updates(raw: bytes) -> list[Update]:
    """Return what one update says; raise msgspec.DecodeError when it is not JSON."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError("The bytes are not UTF-8.") from error
    try:
        update = msgspec.json.decode(raw, type=_Update)
    except (msgspec.ValidationError, RecursionError):
        return [_unreadable(text)]
    found = _inbound(update, text)
    return [found] if found is not None else []


def _inbound(update: _Update, raw: str) -> InboundMessage | None:
    if update.message is not None:
        return _message(update.message, raw)
    happened = update.edited_message or update.message_reaction
    if happened is not None:
        at = _time(happened.edit_date or happened.date)
        return _kept_raw(update, happened, happened.sender or happened.user, at, raw)
    pressed = update.callback_query
    if pressed is not None and pressed.message is not None:
        return _kept_raw(update, pressed.message, pressed.sender, datetime.now(UTC), raw)
    return None


def _message(message: _Message, raw: str) -> InboundMessage | None:
    if message.chat.type not in _CHATS:
        return None
    chat, replied = message.chat.id, message.reply_to_message
    return InboundMessage(
        provider_id=f"{chat}:{message.message_id}",
        address=str(chat),
        at=_time(message.date),
        content=message.text if message.text is not None else message.caption,
        sender_name=_name(message.chat, message.sender),
        reply_to_provider_id=f"{chat}:{replied.message_id}" if replied is not None else None,
        raw=None if message.text is not None else raw,
    )


def _kept_raw(
    update: _Update, message: _Message, user: _User | None, at: datetime, raw: str
) -> InboundMessage | None:
    """Return what happened to a message."""
    if message.chat.type not in _CHATS:
        return None
    return InboundMessage(
        provider_id=f"{message.chat.id}:{message.message_id}:{update.update_id}",
        address=str(message.chat.id),
        at=at,
        content=None,
        sender_name=_name(message.chat, user),
        raw=raw,
    )


def _unreadable(raw: str) -> InboundMessage:
    """Keep what is signed but makes no sense, under a name that its bytes give it."""
    return InboundMessage(
        provider_id=f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}",
        address="unknown",
        at=datetime.now(UTC),
        content=None,
        raw=raw,
    )


def _named(provider_id: str | None) -> tuple[str, int]:
    """Return the chat and the number in a message's name; no chat when it is not one of ours."""
    chat, _, number = (provider_id or "").partition(":")
    number = number.partition(":")[0]
    return (chat, int(number)) if number.isdecimal() else ("", 0)


def _name(chat: _Chat, user: _User | None) -> str | None:
    """Return how who is written to is called: the group, or the person."""
    person = f"{user.first_name} {user.last_name}".strip() if user is not None else None
    return chat.title or person or None


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
