"""Which service a request is for and what an API key must allow: pure rules."""

import re
from typing import NamedTuple

ADMIN = "admin"
SERVICES = {
    "messages": "message",
    "conversations": "message",
    "channels": "message",
    "dead-letters": "message",
    "users": "user",
    "identities": "user",
    "api-keys": "user",
    "audit": "user",
}
ADMIN_ONLY = ("api-keys", "audit")
READING = ("GET", "HEAD")
_ACCOUNT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


class Access(NamedTuple):
    """Where a request goes, and the scope that lets it."""

    service: str
    scope: str


def access(method: str, resource: str) -> Access | None:
    """Return what a request on a resource takes; None when there is no such resource."""
    service = SERVICES.get(resource)
    if service is None:
        return None
    if resource in ADMIN_ONLY:
        return Access(service, ADMIN)
    return Access(service, f"{resource}:{'read' if method in READING else 'write'}")


def allowed(scopes: tuple[str, ...], scope: str) -> bool:
    """Tell whether a key with these scopes may do what takes a scope."""
    return ADMIN in scopes or scope in scopes


def is_account(name: str) -> bool:
    """Tell whether a name may be an account's: nothing that a path could be made to climb with."""
    return _ACCOUNT.fullmatch(name) is not None
