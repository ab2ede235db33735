"""What the Bot API tells of bots, chats and messages, and the numbers it gives them."""

import time
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from services.connectors.simulator_webhooks import Update
from services.runtime.config import Secret

EPOCH_S = 1_750_000_000
NUMBERS_PER_S = 10_000
"""More than anybody takes: a run's last number lies behind the clock when the next run begins."""
_encode = msgspec.json.Encoder().encode


class Account(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One bot, as the provider knows it."""

    bot_token: Annotated[Secret, Meta(pattern=r"\A[1-9][0-9]*:[A-Za-z0-9_-]+\Z")]
    secret_token: Secret

    @property
    def bot_id(self) -> int:
        """The bot's own id, with which its token begins."""
        return int(self.bot_token.partition(":")[0])


class Numbers:
    """Growing numbers for each key, larger than those of earlier runs, so none is remembered."""

    def __init__(self) -> None:
        self._last: dict[object, int] = {}

    def next(self, key: object) -> int:
        """Return a key's next number."""
        self._last[key] = max(self._last.get(key, 0) + 1, _now())
        return self._last[key]

    def may_exist(self, key: object, number: int) -> bool:
        """Tell whether a number may have been given to a key, now or before a restart."""
        return 0 < number <= max(self._last.get(key, 0), _now())


def _now() -> int:
    return int((time.time() - EPOCH_S) * NUMBERS_PER_S)


def bot_node(name: str, account: Account) -> dict[str, Any]:
    """Return a bot as a sender."""
    return {
        "id": account.bot_id,
        "is_bot": True,
        "first_name": f"Simulated {name}",
        "username": f"{name}_bot",
    }


def me_node(name: str, account: Account) -> dict[str, Any]:
    """Return a bot as getMe does."""
    return bot_node(name, account) | {
        "can_join_groups": True,
        "can_read_all_group_messages": False,
        "supports_inline_queries": False,
        "can_connect_to_business": False,
        "has_main_web_app": False,
    }


def chat_node(chat_id: int, name: str | None = None) -> dict[str, Any]:
    """Return a chat: people have positive ids, groups negative ones, supergroups long ones."""
    if chat_id > 0:
        return {"id": chat_id, "first_name": name or str(chat_id), "type": "private"}
    kind = "supergroup" if chat_id <= -(10**12) else "group"
    return {"id": chat_id, "title": f"Group {-chat_id}", "type": kind}


def person_node(chat_id: int, name: str | None) -> dict[str, Any]:
    """Return who writes in a chat: its person, or a member of the group."""
    called = name or str(abs(chat_id))
    return {"id": abs(chat_id), "is_bot": False, "first_name": called, "language_code": "pt-br"}


def message_node(
    number: int, where: dict[str, Any], sender: dict[str, Any], text: str, reply_to: int | None
) -> dict[str, Any]:
    """Return a message; of the one it replies to only the number is remembered."""
    now = int(time.time())
    node = {"message_id": number, "from": sender, "chat": where, "date": now, "text": text}
    if reply_to is not None:
        node["reply_to_message"] = {"message_id": reply_to, "chat": where, "date": now}
    return node


def message_update(account: str, update_id: int, node: dict[str, Any]) -> Update:
    """Return a new message ready to be sent; it stands in the list of its chat."""
    body = _encode({"update_id": update_id, "message": node})
    return Update(account, str(node["chat"]["id"]), body)
