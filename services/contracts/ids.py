"""Identifiers: time-ordered for what we create, name-based for what a provider named."""

from uuid import UUID, uuid5

import uuid_utils

_INBOUND = UUID("6f1d9a52-7a0e-5d3c-9a3e-0b6c1a7e4d21")


def new_id() -> UUID:
    """Return a new UUIDv7 (RFC 9562): unique, and ordered by its time of creation."""
    return UUID(int=uuid_utils.uuid7().int)


def new_text_id() -> str:
    """Return a new UUIDv7 as text, for what is only passed on."""
    return str(uuid_utils.uuid7())


def inbound_id(channel: str, account: str, provider_message_id: str) -> UUID:
    """Return the id of an inbound message: the same for every copy that a provider sends."""
    return uuid5(_INBOUND, f"{channel}\0{account}\0{provider_message_id}")
