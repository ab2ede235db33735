"""What may be asked of `/messages`: the shape of every node, read strictly."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from services.connectors.whatsapp.simulator_errors import Refusal
from services.contracts.problems import Problem
from services.runtime.http.routes import decode

PhoneNumber = Annotated[str, Meta(pattern=r"^\+?(?:[ ().-]*[0-9]){7,15}[ ().-]*$", max_length=40)]
"""Seven to fifteen digits; people write them with plus, spaces and brackets."""
Link = Annotated[str, Meta(pattern=r"^https?://", max_length=4096)]
Caption = Annotated[str, Meta(max_length=1024)]
Filled = Annotated[str, Meta(min_length=1)]
INVALID_PARAMETERS = ("type", "text.body", "messaging_product")
"""A wrong value here is code 100; elsewhere it is 131009."""


class _Node(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Text(_Node, frozen=True):
    """A text of up to 4096 characters."""

    body: Annotated[str, Meta(min_length=1, max_length=4096)]
    preview_url: bool = False


class Media(_Node, frozen=True, kw_only=True):
    """A file by the id of an upload or by its link."""

    id: Filled | None = None
    link: Link | None = None


class CaptionedMedia(Media, frozen=True, kw_only=True):
    """An image or a video."""

    caption: Caption | None = None


class Document(CaptionedMedia, frozen=True, kw_only=True):
    """Any file, with a name."""

    filename: str | None = None


class Location(_Node, frozen=True):
    """A place; coordinates come as numbers or as their text."""

    latitude: float | str
    longitude: float | str
    name: str | None = None
    address: str | None = None


class Reaction(_Node, frozen=True):
    """A reaction to a message; an empty emoji removes it."""

    message_id: Filled
    emoji: str


class Interactive(_Node, frozen=True, kw_only=True):
    """Buttons, lists and their relatives."""

    type: Filled
    action: dict[str, Any]
    body: dict[str, Any] | None = None
    header: dict[str, Any] | None = None
    footer: dict[str, Any] | None = None


class Language(_Node, frozen=True):
    """A template's language."""

    code: Filled
    policy: Literal["deterministic"] = "deterministic"


class Template(_Node, frozen=True):
    """An approved template and what fills it."""

    name: Filled
    language: Language
    components: list[dict[str, Any]] | None = None


class Context(_Node, frozen=True):
    """The message that is replied to."""

    message_id: Filled


class Message(_Node, frozen=True, kw_only=True):
    """A message to one person: exactly the node that `type` names."""

    messaging_product: Literal["whatsapp"]
    to: PhoneNumber
    type: Literal[
        "text",
        "image",
        "audio",
        "video",
        "document",
        "sticker",
        "location",
        "reaction",
        "interactive",
        "template",
    ]
    recipient_type: Literal["individual"] = "individual"
    context: Context | None = None
    biz_opaque_callback_data: Annotated[str, Meta(max_length=512)] | None = None
    text: Text | None = None
    image: CaptionedMedia | None = None
    audio: Media | None = None
    video: CaptionedMedia | None = None
    document: Document | None = None
    sticker: Media | None = None
    location: Location | None = None
    reaction: Reaction | None = None
    interactive: Interactive | None = None
    template: Template | None = None


class Typing(_Node, frozen=True):
    """Shows the customer that somebody is typing."""

    type: Literal["text"]


class ReadMark(_Node, frozen=True, kw_only=True):
    """Marks a customer's message as read."""

    messaging_product: Literal["whatsapp"]
    status: Literal["read"]
    message_id: Filled
    typing_indicator: Typing | None = None


class _Probe(Struct, frozen=True):
    status: object = None


_NODES = tuple(
    name
    for name in Message.__struct_fields__
    if name not in ("messaging_product", "to", "type", "recipient_type", "context")
    and name != "biz_opaque_callback_data"
)
_probe = msgspec.json.Decoder(_Probe)
_message = msgspec.json.Decoder(Message)
_read_mark = msgspec.json.Decoder(ReadMark)


def parse(raw: bytes, content_type: str) -> Message | ReadMark:
    """Read the body of a request to `/messages`; raise Refusal when it is not as documented."""
    if content_type != "application/json":
        raise Refusal(100, "The parameter messaging_product is required: send JSON.")
    try:
        if decode(raw, _probe).status is not None:
            mark: ReadMark = decode(raw, _read_mark)
            return mark
        message: Message = decode(raw, _message)
    except Problem as problem:
        raise _refusal(problem) from problem
    _check_nodes(message)
    return message


def _check_nodes(message: Message) -> None:
    if getattr(message, message.type) is None:
        raise Refusal(131008, f"Parameter '{message.type}' is mandatory.")
    for name in _NODES:
        node = getattr(message, name)
        if node is not None and name != message.type:
            raise Refusal(100, f"Unexpected key '{name}' in a message of type {message.type}.")
        if isinstance(node, Media) and (node.id is None) == (node.link is None):
            raise Refusal(131009, f"Param {name} must have either an id or a link.")


def _refusal(problem: Problem) -> Refusal:
    field = problem.field or ""
    match problem.code:
        case "invalid_json":
            return Refusal(100, "The request body is not valid JSON.")
        case "missing_field":
            return Refusal(131008, f"Parameter '{field}' is mandatory.")
        case "unknown_field":
            return Refusal(100, f"Unexpected key '{field}'.")
    code = 100 if field in INVALID_PARAMETERS or not field else 131009
    return Refusal(code, f"Param {field or 'body'}: {problem.detail}")
