"""What Instagram tells its accounts' webhooks: messages, echoes, readings, ids and signatures."""

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any

from msgspec import Meta, Struct

from services.connectors.simulator_webhooks import Update
from services.runtime.config import Secret

Digits = Annotated[str, Meta(pattern=r"\A[0-9]+\Z")]
MESSAGING = "messaging"
Node = dict[str, Any]


class Account(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One professional account and its page, as the provider knows them."""

    ig_id: Digits
    page_id: Digits | None = None
    access_token: Secret
    app_secrets: Annotated[tuple[Secret, ...], Meta(min_length=1)]
    verify_token: Secret


class MessageIds:
    """Makes ids that say whose conversation they are from."""

    def __init__(self) -> None:
        self._last = 0

    def make(self, account: Account, customer: str) -> str:
        """Return a new `mid` of a message between an account and a customer."""
        self._last = max(self._last + 1, time.time_ns())
        name = f"{_conversation(account, customer)}:{self._last}"
        return urlsafe_b64encode(name.encode()).decode().rstrip("=")

    def is_from(self, account: Account, customer: str, mid: str) -> bool:
        """Tell whether an id is from the conversation of an account and a customer."""
        try:
            name = urlsafe_b64decode(mid + "=" * (-len(mid) % 4)).decode()
        except ValueError:
            return False
        return name.startswith(f"{_conversation(account, customer)}:")


def _conversation(account: Account, customer: str) -> str:
    return f"ig_dm_item:1:IGMessageID:{account.ig_id}:{customer}"


class Customers:
    """When each customer last wrote to each account; an id means somebody only within one."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], float] = {}

    def wrote(self, account: str, customer: str, now: float) -> None:
        """Remember that a customer wrote."""
        self._last[account, customer] = now

    def knows(self, account: str, customer: str) -> bool:
        """Tell whether a customer ever wrote to an account."""
        return (account, customer) in self._last

    def silence_s(self, account: str, customer: str, now: float) -> float:
        """Return how long ago a customer last wrote; for ever when never."""
        return now - self._last.get((account, customer), float("-inf"))


def echo_node(account: Account, customer: str, at: float, message: Node) -> Node:
    """Return what tells of a message that went out."""
    return _node(account.ig_id, customer, at) | {"message": message | {"is_echo": True}}


def read_node(account: Account, customer: str, at: float, mid: str) -> Node:
    """Return what tells that a customer has seen a message."""
    return _node(customer, account.ig_id, at) | {"read": {"mid": mid}}


def message_node(account: Account, customer: str, at: float, message: Node) -> Node:
    """Return what tells of a customer's message."""
    return _node(customer, account.ig_id, at) | {"message": message}


def _node(sender: str, recipient: str, at: float) -> Node:
    return {
        "sender": {"id": sender},
        "recipient": {"id": recipient},
        "timestamp": int(at * 1000),
    }


def update(name: str, node: Node) -> Update:
    r"""Return an item ready to be sent: beyond ASCII it is signed as `\u` and lowercase hex."""
    return Update(name, MESSAGING, json.dumps(node, separators=(",", ":")).encode())


def compose(account: Account, updates: list[Update], now: float) -> bytes:
    """Return the body of one webhook."""
    return b'{"object":"instagram","entry":[{"id":"%b","time":%d,"messaging":[%b]}]}' % (
        account.ig_id.encode(),
        int(now * 1000),
        b",".join(update.node for update in updates),
    )
