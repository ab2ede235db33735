"""What may be asked: the arguments of a method, however they come, read as the server reads them.

Every argument is text, wherever it stood: numbers and structures of a JSON body are written out
before they are read again. Arguments that a method does not know are not looked at.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from msgspec import Struct

from services.connectors.telegram.simulator_errors import Refusal

TEXT_LENGTH_MAX = 4096
SECRET_TOKEN_LENGTH_MAX = 256
CONNECTIONS_MAX, CONNECTIONS_DEFAULT = 100, 40
PARSE_MODES = ("", "html", "markdown", "markdownv2")
ACTIONS = (
    *("typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice"),
    *("upload_document", "choose_sticker", "find_location", "record_video_note"),
    "upload_video_note",
)
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_SECRET = re.compile(r"[A-Za-z0-9_-]*")
_INTEGER = re.compile(r"-?[0-9]{1,18}")

Arguments = Mapping[str, str]


class TextMessage(Struct, frozen=True):
    """A text to a chat, perhaps in reply."""

    chat_id: int
    text: str
    reply_to: int | None
    without_reply: bool


class WebhookRequest(Struct, frozen=True):
    """Where updates shall go, and which ones; no kinds leave those that were asked for before."""

    url: str
    secret_token: str
    connections_max: int
    kinds: tuple[str, ...] | None = None
    drop_pending: bool = False


async def read_arguments(request: web.Request) -> Arguments:
    """Read the arguments from query, form, multipart or JSON; those of the query count first."""
    found: dict[str, Any] = {}
    try:
        if request.content_type == "application/json":
            found = _object(await request.text() or "{}", "JSON object expected")
        elif request.content_type in _FORMS:
            found = dict(await request.post())
    except web.HTTPRequestEntityTooLarge as error:
        raise Refusal(413, "Request Entity Too Large") from error
    except (UnicodeDecodeError, LookupError) as error:
        raise Refusal(400, "Bad Request: strings must be encoded in UTF-8") from error
    found |= request.query
    return {name: _written(value) for name, value in found.items()}


def read_text_message(given: Arguments) -> TextMessage:
    """Read what sendMessage is asked for."""
    text = given.get("text", "")
    if not text:
        raise Refusal(400, "Bad Request: message text is empty")
    if not text.strip():
        raise Refusal(400, "Bad Request: text must be non-empty")
    if len(text.encode("utf-16-le", "surrogatepass")) > 2 * TEXT_LENGTH_MAX:
        raise Refusal(400, "Bad Request: message is too long")
    if given.get("parse_mode", "").lower() not in PARSE_MODES:
        raise Refusal(400, "Bad Request: unsupported parse_mode")
    expected = "can't parse reply parameters JSON object"
    reply = _object(given.get("reply_parameters") or "{}", expected)
    reply_to = _written(reply.get("message_id", given.get("reply_to_message_id", "")))
    alone = reply.get("allow_sending_without_reply", given.get("allow_sending_without_reply", ""))
    if reply_to and not _INTEGER.fullmatch(reply_to):
        raise Refusal(400, f"Bad Request: {expected}")
    return TextMessage(
        chat_id=read_chat_id(given),
        text=text,
        reply_to=int(reply_to) if reply_to else None,
        without_reply=_true(_written(alone)),
    )


def read_chat_id(given: Arguments) -> int:
    """Read the chat; there are no public ones here, which have a name."""
    text = given.get("chat_id", "").strip()
    if not text:
        raise Refusal(400, "Bad Request: chat_id is empty")
    if not _INTEGER.fullmatch(text) or int(text) == 0:
        raise Refusal(400, "Bad Request: chat not found")
    return int(text)


def read_action(given: Arguments) -> str:
    """Read what sendChatAction shows."""
    action = given.get("action", "").lower()
    if action not in ACTIONS:
        raise Refusal(400, "Bad Request: wrong parameter action in request")
    return action


def read_webhook(given: Arguments) -> WebhookRequest:
    """Read what setWebhook is asked for; plain HTTP passes, as on a server of one's own."""
    url, secret = given.get("url", ""), given.get("secret_token", "")
    if url and not re.fullmatch(r"https?://[^/?#]+.*", url):
        raise Refusal(400, "Bad Request: invalid webhook URL specified")
    if len(secret) > SECRET_TOKEN_LENGTH_MAX:
        raise Refusal(400, "Bad Request: secret token is too long")
    if not _SECRET.fullmatch(secret):
        raise Refusal(400, "Bad Request: secret token contains unallowed characters")
    connections = read_integer(given, "max_connections", CONNECTIONS_DEFAULT)
    return WebhookRequest(
        url=url,
        secret_token=secret,
        connections_max=min(max(connections, 1), CONNECTIONS_MAX),
        kinds=_kinds(given.get("allowed_updates", "")),
        drop_pending=read_drop_pending(given),
    )


def read_drop_pending(given: Arguments) -> bool:
    """Tell whether updates that wait are not wanted any more."""
    return _true(given.get("drop_pending_updates", ""))


def read_integer(given: Arguments, name: str, default: int) -> int:
    """Read a number; what is none counts as not given."""
    text = given.get(name, "")
    return int(text) if _INTEGER.fullmatch(text) else default


def _kinds(text: str) -> tuple[str, ...] | None:
    try:
        kinds = json.loads(text or "null")
    except ValueError:
        return None
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        return None
    return tuple(kind.lower() for kind in kinds)


def _object(text: str, expected: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refusal(400, f"Bad Request: {expected}")
    return found


def _written(value: object) -> str:
    if isinstance(value, web.FileField):
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _true(text: str) -> bool:
    return text.lower() in ("true", "yes", "1")
