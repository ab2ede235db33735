"""What the Cloud API tells its customers' webhooks: statuses, messages, ids and signatures."""

import hashlib
import hmac
import json
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from services.connectors.simulator_webhooks import Update
from services.runtime.config import Secret

Digits = Annotated[str, Meta(pattern=r"\A[0-9]+\Z")]
STATUSES = "statuses"
MESSAGES = "messages"
LAST_VERSION_WITH_CONVERSATION = 23
CONVERSATION_S = 86400
OUTBOUND, INBOUND = b"\x11", b"\x12"
TAG_LENGTH = 8
_encode = msgspec.json.Encoder().encode


class Account(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One business number, as the provider knows it."""

    phone_number_id: Digits
    waba_id: Digits
    display_phone_number: Digits
    access_token: Secret
    app_secret: Secret
    verify_token: Secret


class MessageIds:
    """Makes ids that prove whose they are, so that none has to be remembered."""

    def __init__(self) -> None:
        self._last = 0

    def make(self, account: Account, number: str, direction: bytes) -> str:
        """Return a new `wamid` of a message from or to a number."""
        self._last = max(self._last + 1, time.time_ns())
        body = b"\x1c\x18%c%b\x15\x02\x00%b\x18%016X" % (
            len(number),
            number.encode(),
            direction,
            self._last,
        )
        return "wamid." + b64encode(body + _tag(account, body)).decode()

    def is_inbound(self, account: Account, wamid: str) -> bool:
        """Tell whether an id names a message that a customer wrote to this account."""
        try:
            whole = b64decode(wamid.removeprefix("wamid."), validate=True)
        except ValueError:
            return False
        body, tag = whole[:-TAG_LENGTH], whole[-TAG_LENGTH:]
        return hmac.compare_digest(tag, _tag(account, body)) and INBOUND + b"\x18" in body


def _tag(account: Account, body: bytes) -> bytes:
    key = account.app_secret.encode()[: hashlib.blake2b.MAX_KEY_SIZE]
    return hashlib.blake2b(body, key=key, digest_size=TAG_LENGTH // 2).hexdigest().encode()


def escaped(raw: bytes) -> bytes:
    r"""Return JSON with everything beyond ASCII as lowercase `\u` escapes, as the provider does."""
    if raw.isascii():
        return raw
    return json.dumps(json.loads(raw), ensure_ascii=True, separators=(",", ":")).encode()


def status_node(
    wamid: str, status: str, at: float, recipient: str, opaque: str | None, version: int
) -> dict[str, Any]:
    """Return one status; until v23 it told of the conversation, too."""
    node: dict[str, Any] = {
        "id": wamid,
        "status": status,
        "timestamp": str(int(at)),
        "recipient_id": recipient,
    }
    if opaque is not None:
        node["biz_opaque_callback_data"] = opaque
    if status not in ("sent", "delivered"):
        return node
    if version <= LAST_VERSION_WITH_CONVERSATION:
        node["conversation"] = {
            "id": hashlib.md5(recipient.encode(), usedforsecurity=False).hexdigest(),
            "origin": {"type": "service"},
        }
        if status == "sent":
            node["conversation"]["expiration_timestamp"] = str(int(at) + CONVERSATION_S)
    node["pricing"] = {
        "billable": False,
        "pricing_model": "PMP",
        "category": "service",
        "type": "free_customer_service",
    }
    return node


def error_node(code: int, title: str) -> dict[str, Any]:
    """Return the error of a failed status."""
    return {
        "code": code,
        "title": title,
        "message": title,
        "error_data": {"details": "The message could not be delivered."},
        "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
    }


def status_update(account: str, node: Mapping[str, Any]) -> Update:
    """Return a status ready to be sent."""
    return Update(account, STATUSES, escaped(_encode(node)))


def message_update(account: str, contact: Mapping[str, Any], message: Mapping[str, Any]) -> Update:
    """Return a customer's message with its contact, ready to be sent."""
    value = escaped(_encode({"contacts": [contact], "messages": [message]}))
    return Update(account, MESSAGES, value[1:-1])


class Envelope:
    """Packs an account's updates: all statuses into one change, each message into its own."""

    def __init__(self, account: Account) -> None:
        metadata = {
            "display_phone_number": account.display_phone_number,
            "phone_number_id": account.phone_number_id,
        }
        self._value = b'{"value":{"messaging_product":"whatsapp","metadata":%b,' % _encode(metadata)
        self._head = b'{"object":"whatsapp_business_account","entry":[{"id":%b,"changes":[' % (
            _encode(account.waba_id)
        )

    def pack(self, updates: list[Update]) -> bytes:
        """Return the body of one webhook."""
        contents = [update.node for update in updates if update.kind == MESSAGES]
        statuses = [update.node for update in updates if update.kind == STATUSES]
        if statuses:
            contents.append(b'"statuses":[%b]' % b",".join(statuses))
        changes = (self._value + content + b'},"field":"messages"}' for content in contents)
        return self._head + b",".join(changes) + b"]}]}"
