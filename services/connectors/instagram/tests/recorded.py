"""Webhook items in the shapes that the provider documents and that were reported, one of each."""

from typing import Any

IG_ID = "17841400000000001"
CUSTOMER = "1234567890123456"
AT_MS = 1712345678901
INWARDS = {"sender": {"id": CUSTOMER}, "recipient": {"id": IG_ID}, "timestamp": AT_MS}
OUTWARDS = {"sender": {"id": IG_ID}, "recipient": {"id": CUSTOMER}, "timestamp": AT_MS}
Item = dict[str, Any]


def message(**changes: Any) -> Item:
    """Return a customer's message; None leaves a key out."""
    node = {"mid": "aWdf.in", "text": "oi"} | changes
    return INWARDS | {"message": {k: v for k, v in node.items() if v is not None}}


def echo(**changes: Any) -> Item:
    """Return the echo of a message that went out; None leaves a key out."""
    node = {"mid": "aWdf.out", "text": "Olá 👋", "is_echo": True} | changes
    return OUTWARDS | {"message": {k: v for k, v in node.items() if v is not None}}


PICTURE = [{"type": "image", "payload": {"url": "https://lookaside.example/1"}}]
STORY = {"story": {"url": "https://lookaside.example/2", "id": "18000000000000001"}}
POSTBACK = INWARDS | {
    "postback": {"mid": "aWdf.post", "title": "Talk to a person", "payload": "HUMAN"}
}
REACTION = INWARDS | {
    "reaction": {"mid": "aWdf.out", "action": "react", "reaction": "love", "emoji": "❤"}
}
UNREACTION = INWARDS | {"reaction": {"mid": "aWdf.out", "action": "unreact"}}
EDIT = INWARDS | {"message_edit": {"mid": "aWdf.in", "text": "oi!", "num_edit": 1}}
EDIT_OF_NOTHING = INWARDS | {"message_edit": {"mid": "aWdf.in", "num_edit": 0}}
DELETION = message(text=None, is_deleted=True)
REFERRAL = INWARDS | {"referral": {"ref": "promo", "source": "IGME", "type": "OPEN_THREAD"}}
READ = INWARDS | {"read": {"mid": "aWdf.out"}}


def webhook(*items: object, entry_id: str = IG_ID) -> dict[str, Any]:
    """Return the body of a webhook with these items in one entry."""
    entry = {"id": entry_id, "time": AT_MS, "messaging": list(items)}
    return {"object": "instagram", "entry": [entry]}
