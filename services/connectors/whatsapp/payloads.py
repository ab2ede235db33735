"""The WhatsApp Cloud API's JSON: what is sent, what is answered, what webhooks say.

Webhooks are read leniently: the provider adds fields and kinds at any time, and nothing that
was signed may be lost. What cannot be read as a known kind is kept raw.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from services.connectors.base import Delivery, InboundMessage, ProviderId, StatusUpdate, Update
from services.contracts.records import Reason
from services.contracts.status import Status

MESSAGES = "messages"
T = TypeVar("T")
_Sender = Annotated[str, Meta(max_length=512, pattern=r"\A[^\x00]*\Z")]
"""A phone number or a user's id; the one that a customer has not shown may be empty."""
_STATUSES = {
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "played": Status.READ,
    "failed": Status.FAILED,
}


class Metadata(Struct, frozen=True):
    """Which of the business's numbers a change is about."""

    phone_number_id: str


class Profile(Struct, frozen=True):
    """How a customer calls themselves."""

    name: str | None = None


class Contact(Struct, frozen=True):
    """Who wrote."""

    wa_id: str | None = None
    user_id: str | None = None
    profile: Profile = Profile()


class Value(Struct, frozen=True):
    """One change: any number of messages and statuses."""

    metadata: Metadata | None = None
    contacts: list[Contact] = []
    messages: list[Any] = []
    statuses: list[Any] = []


class Change(Struct, frozen=True):
    """A change of a field that the webhook is subscribed to; only `messages` concerns us."""

    value: Any
    field: str = ""


class Entry(Struct, frozen=True):
    """The changes of one business account."""

    changes: list[Any] = []


class Webhook(Struct, frozen=True):
    """The body of a webhook."""

    object: str
    entry: list[Any] = []


class _Body(Struct, frozen=True):
    body: str


class _Button(Struct, frozen=True):
    text: str


class _Context(Struct, frozen=True):
    id: ProviderId | None = None


class _Message(Struct, frozen=True, rename={"sender": "from"}):
    id: ProviderId
    timestamp: str | int
    sender: _Sender | None = None
    from_user_id: _Sender | None = None
    type: str = ""
    text: _Body | None = None
    button: _Button | None = None
    interactive: dict[str, Any] = {}
    context: _Context | None = None


class _ErrorData(Struct, frozen=True):
    details: str | None = None


class _Error(Struct, frozen=True):
    code: int
    title: str = ""
    message: str | None = None
    error_data: _ErrorData | None = None


class _Status(Struct, frozen=True):
    id: ProviderId
    status: str
    timestamp: str | int
    biz_opaque_callback_data: str | None = None
    errors: list[_Error] = []


def text_message(delivery: Delivery) -> bytes:
    """Return the body that sends a text."""
    body: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": delivery.address,
        "type": "text",
        "text": {"body": delivery.content, "preview_url": False},
        "biz_opaque_callback_data": delivery.reference,
    }
    if delivery.reply_to_provider_id is not None:
        body["context"] = {"message_id": delivery.reply_to_provider_id}
    return msgspec.json.encode(body)


def updates(raw: bytes, ours: str) -> list[Update] | None:
    """Return all that a webhook says; None when a change is about a number that is not ours."""
    body = _decode(raw)
    webhook = _read(body, Webhook)
    if webhook is None:
        return [_unreadable(body)]
    found: list[Update] = []
    for node in webhook.entry:
        entry = _read(node, Entry)
        for changed in [node] if entry is None else entry.changes:
            change = _read(changed, Change)
            if change is not None and change.field != MESSAGES:
                continue
            value = _read(change.value, Value) if change is not None else None
            if value is None:
                found.append(_unreadable(changed))
            elif value.metadata is None or value.metadata.phone_number_id != ours:
                return None
            else:
                found.extend(_said(value))
    return found


def _decode(raw: bytes) -> Any:
    """Decode JSON; what msgspec refuses and people can send, such as half an emoji, becomes ?."""
    try:
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            mended = json.dumps(json.loads(raw.decode(errors="replace")), ensure_ascii=False)
            return msgspec.json.decode(mended.encode(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def _read(node: Any, kind: type[T]) -> T | None:
    try:
        return msgspec.convert(node, kind)
    except msgspec.ValidationError:
        return None


def _said(value: Value) -> Iterator[Update]:
    """Yield everything that one change says."""
    names = {
        key: contact.profile.name
        for contact in value.contacts
        for key in (contact.wa_id, contact.user_id)
        if key
    }
    for node in value.messages:
        yield _inbound(node, names)
    for node in value.statuses:
        status = _status(node)
        if status is not None:
            yield status


def _inbound(node: Any, names: dict[str, str | None]) -> InboundMessage:
    try:
        message = msgspec.convert(node, _Message)
        at = _time(message.timestamp)
    except (msgspec.ValidationError, ValueError, OverflowError):
        return _unreadable(node)
    address = message.sender or message.from_user_id or "unknown"
    content = _content(message)
    return InboundMessage(
        provider_id=message.id,
        address=address,
        at=at,
        content=content,
        sender_name=names.get(address),
        reply_to_provider_id=message.context.id if message.context else None,
        raw=None if content is not None else _encode(node),
    )


def _content(message: _Message) -> str | None:
    if message.type == "text" and message.text is not None:
        return message.text.body
    if message.type == "button" and message.button is not None:
        return message.button.text
    if message.type == "interactive":
        reply = message.interactive.get(message.interactive.get("type", ""))
        title = reply.get("title") if isinstance(reply, dict) else None
        return title if isinstance(title, str) else None
    return None


def _encode(node: Any) -> str:
    return msgspec.json.encode(node).decode()


def _unreadable(node: Any) -> InboundMessage:
    """Keep what is signed but makes no sense, under a name that its contents give it."""
    text = _encode(node)
    return InboundMessage(
        provider_id=f"sha256:{hashlib.sha256(text.encode()).hexdigest()}",
        address="unknown",
        at=datetime.now(UTC),
        content=None,
        raw=text,
    )


def _status(node: Any) -> StatusUpdate | None:
    try:
        status = msgspec.convert(node, _Status)
        at = _time(status.timestamp)
    except (msgspec.ValidationError, ValueError, OverflowError):
        return None
    known = _STATUSES.get(status.status)
    if known is None:
        return None
    error = status.errors[0] if status.errors else None
    return StatusUpdate(
        provider_id=status.id,
        status=known,
        at=at,
        reference=status.biz_opaque_callback_data,
        reason=_reason(error) if error is not None and known is Status.FAILED else None,
    )


def _reason(error: _Error) -> Reason:
    details = error.error_data.details if error.error_data else None
    return Reason(f"provider_{error.code}", details or error.message or error.title)


def _time(seconds: str | int) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
