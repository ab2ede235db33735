"""Instagram Messaging's JSON: what is sent and what webhooks say.

Webhooks are read leniently: the provider adds fields and kinds at any time, and nothing that
was signed may be lost. What cannot be shown as words is kept raw.
"""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from services.connectors.base import (
    Delivery,
    Echo,
    InboundMessage,
    ProviderId,
    StatusUpdate,
    Update,
)
from services.contracts.status import Status

OBJECT = "instagram"
PLAIN = {"mid", "text", "reply_to"}
"""The keys of a message that its content and its reply tell completely."""
NAMELESS = "sha256:"
"""Begins the ids of what the provider gave none, such as a reaction."""
T = TypeVar("T")


class Webhook(Struct, frozen=True):
    """The body of a webhook."""

    object: str
    entry: list[Any] = []


class Entry(Struct, frozen=True):
    """What happened to one account.

    Its `id` is a customer's in some documented samples, so each item says itself whose it is. An
    entry's `standby` (another app owns the conversation) and `changes` (a test of the dashboard)
    are not read.
    """

    messaging: list[Any] = []


class _Party(Struct, frozen=True):
    id: ProviderId | int


class _Reply(Struct, frozen=True):
    mid: ProviderId | None = None


class _Message(Struct, frozen=True):
    mid: ProviderId
    text: str | None = None
    reply_to: _Reply | None = None
    is_echo: bool = False
    is_self: bool = False
    is_deleted: bool = False
    is_unsupported: bool = False


class _About(Struct, frozen=True):
    """A reading of, or a reaction to, the message it names."""

    mid: ProviderId


class _Edit(Struct, frozen=True):
    mid: ProviderId
    text: str | None = None
    num_edit: int = 0


class _Postback(Struct, frozen=True):
    mid: ProviderId | None = None
    title: str | None = None


class _Item(Struct, frozen=True):
    sender: _Party
    recipient: _Party
    timestamp: int | str = ""
    message: _Message | None = None
    message_edit: _Edit | None = None
    postback: _Postback | None = None
    reaction: _About | None = None
    read: _About | None = None


def text_message(delivery: Delivery) -> bytes:
    """Return the body that sends a text, as a reply where there is a message to reply to."""
    message: dict[str, Any] = {"text": delivery.content}
    target = delivery.reply_to_provider_id
    if target is not None and not target.startswith(NAMELESS):
        message["reply_to"] = {"mid": target}
    return msgspec.json.encode({"recipient": {"id": delivery.address}, "message": message})


def updates(raw: bytes, ours: str) -> list[Update] | None:
    """Return all that a webhook says; None when an item is for an account that is not ours."""
    body = _decode(raw)
    webhook = _read(body, Webhook)
    if webhook is None:
        return [_unreadable(body)]
    found: list[Update] = []
    for node in webhook.entry if webhook.object == OBJECT else []:
        entry = _read(node, Entry)
        if entry is None:
            found.append(_unreadable(node))
            continue
        for part in entry.messaging:
            item = _read(part, _Item)
            if item is None:
                found.append(_unreadable(part))
            elif not _is_ours(item, ours):
                return None
            elif (update := _update(item, part, ours)) is not None:
                found.append(update)
    return found


def _decode(raw: bytes) -> Any:
    """Decode JSON; half a surrogate pair, which msgspec refuses and people can send, becomes ?."""
    try:
        try:
            return msgspec.json.decode(raw)
        except msgspec.DecodeError:
            mended = json.dumps(json.loads(raw.decode()), ensure_ascii=False)
            return msgspec.json.decode(mended.encode(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def _read(node: Any, kind: type[T]) -> T | None:
    try:
        return msgspec.convert(node, kind)
    except msgspec.ValidationError:
        return None


def _is_ours(item: _Item, ours: str) -> bool:
    """Tell whose item it is by whom it is for, or by whom it is from when it went out."""
    if str(item.sender.id) == ours:
        return True
    echo = item.message is not None and item.message.is_echo
    return not echo and str(item.recipient.id) == ours


def _update(item: _Item, node: Any, ours: str) -> Update | None:
    at = _time(item.timestamp)
    if str(item.sender.id) == ours:
        return _echo(item, at)
    if item.read is not None:
        return StatusUpdate(provider_id=item.read.mid, status=Status.READ, at=at)
    return _inbound(item, node, at)


def _echo(item: _Item, at: datetime) -> Echo | None:
    """Return the evidence of a text that went out; nothing else of our own doing is news."""
    message = item.message
    if message is None or not message.is_echo or message.is_self or message.is_deleted:
        return None
    if not message.text:
        return None
    return Echo(
        provider_id=message.mid, address=str(item.recipient.id), content=message.text, at=at
    )


def _inbound(item: _Item, node: Any, at: datetime) -> InboundMessage | None:
    """Return what a customer did: their words, if any, and raw what words do not tell.

    What has no name of its own is named by its contents, and replies to the message it is about.
    """
    name, content, about = None, None, None
    if message := item.message:
        if message.is_self:
            return None
        if message.is_deleted:
            about = message.mid
        else:
            name, about = message.mid, message.reply_to.mid if message.reply_to else None
            content = None if message.is_unsupported else message.text
    elif edit := item.message_edit:
        about, content = edit.mid, edit.text if edit.num_edit > 0 else None
    elif postback := item.postback:
        name, content = postback.mid, postback.title
    elif item.reaction:
        about = item.reaction.mid
    return InboundMessage(
        provider_id=name or _digest(node),
        address=str(item.sender.id),
        at=at,
        content=content or None,
        reply_to_provider_id=about,
        raw=None if content and _is_plain(item.message, node) else _encode(node),
    )


def _is_plain(message: _Message | None, node: Any) -> bool:
    """Tell whether a message is nothing but words, perhaps in reply to a message."""
    if message is None or not node["message"].keys() <= PLAIN:
        return False
    return message.reply_to is None or message.reply_to.mid is not None


def _unreadable(node: Any) -> InboundMessage:
    """Keep what is signed but makes no sense."""
    return InboundMessage(
        provider_id=_digest(node),
        address="unknown",
        at=datetime.now(UTC),
        content=None,
        raw=_encode(node),
    )


def _encode(node: Any) -> str:
    return msgspec.json.encode(node).decode()


def _digest(node: Any) -> str:
    """Return a name that is the same however often something is repeated."""
    return NAMELESS + hashlib.sha256(_encode(node).encode()).hexdigest()


def _time(milliseconds: int | str) -> datetime:
    """Return a time; now for one that is missing or cannot be."""
    try:
        return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.now(UTC)
