"""What may be asked of `/messages`: the shape of every node, read strictly."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from services.connectors.instagram.simulator_errors import INVALID, Refusal
from services.contracts.problems import Problem
from services.runtime.http.routes import decode

TEXT_SIZE_MAX_BYTES = 1000
CustomerId = Annotated[str, Meta(pattern=r"\A[0-9]{1,32}\Z")]
Filled = Annotated[str, Meta(min_length=1)]
Link = Annotated[str, Meta(pattern=r"^https?://", max_length=4096)]


class _Node(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Recipient(_Node, frozen=True):
    """A customer, as this account knows them."""

    id: CustomerId


class File(_Node, frozen=True, kw_only=True):
    """A file by its public link or by the id of an upload."""

    url: Link | None = None
    attachment_id: Filled | None = None
    is_reusable: bool = False


class Attachment(_Node, frozen=True):
    """One file of a kind."""

    type: Literal["image", "audio", "video", "file"]
    payload: File


class Reply(_Node, frozen=True):
    """The message that is replied to."""

    mid: Filled


class Content(_Node, frozen=True, kw_only=True):
    """A text or an attachment."""

    text: Filled | None = None
    attachment: Attachment | None = None
    reply_to: Reply | None = None


class Message(_Node, frozen=True, kw_only=True):
    """A message to one person.

    Whether `reply_to` stands in the message or beside it is not settled: one of both is taken.
    """

    recipient: Recipient
    message: Content
    reply_to: Reply | None = None
    messaging_type: Literal["RESPONSE", "UPDATE", "MESSAGE_TAG"] | None = None
    tag: Literal["HUMAN_AGENT"] | None = None

    @property
    def type(self) -> str:
        """The kind of the message."""
        return self.message.attachment.type if self.message.attachment else "text"

    @property
    def context(self) -> str | None:
        """The message that is replied to."""
        reply = self.message.reply_to or self.reply_to
        return reply.mid if reply else None


class Reaction(_Node, frozen=True):
    """What is thought of a message."""

    message_id: Filled
    reaction: Literal["love"]


class Action(_Node, frozen=True, kw_only=True):
    """Something shown to a customer that is not a message."""

    recipient: Recipient
    sender_action: Literal["typing_on", "typing_off", "mark_seen", "react"]
    payload: Reaction | None = None


class _Probe(Struct, frozen=True):
    sender_action: object = None


_probe = msgspec.json.Decoder(_Probe)
_message = msgspec.json.Decoder(Message)
_action = msgspec.json.Decoder(Action)


def parse(raw: bytes, content_type: str) -> Message | Action:
    """Read the body of a request to `/messages`; raise Refusal when it is not as documented."""
    if content_type != "application/json":
        raise Refusal(INVALID, "The parameter recipient is required: send JSON.")
    try:
        if decode(raw, _probe).sender_action is not None:
            action: Action = decode(raw, _action)
            _require_one("payload", [action.sender_action != "react", action.payload])
            return action
        message: Message = decode(raw, _message)
    except Problem as problem:
        raise Refusal(INVALID, f"Param {problem.field or 'body'}: {problem.detail}") from problem
    _check(message)
    return message


def _check(message: Message) -> None:
    content = message.message
    _require_one("message", [content.text, content.attachment])
    if content.attachment:
        file = content.attachment.payload
        _require_one("message[attachment][payload]", [file.url, file.attachment_id])
    if content.reply_to and message.reply_to:
        raise Refusal(INVALID, "Param reply_to: it was given twice.")
    if message.messaging_type == "MESSAGE_TAG" and message.tag is None:
        raise Refusal(INVALID, "The parameter tag is required.")
    if len((content.text or "").encode()) > TEXT_SIZE_MAX_BYTES:
        longest = f"must be less than or equal to {TEXT_SIZE_MAX_BYTES} bytes in UTF-8"
        raise Refusal(INVALID, f"Length of param message[text] {longest}.")


def _require_one(name: str, given: list[object]) -> None:
    if sum(bool(value) for value in given) != 1:
        raise Refusal(INVALID, f"Param {name} must have exactly one of its contents.")
