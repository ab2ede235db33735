"""What an API key may be allowed to do."""

ADMIN = "admin"
RESOURCES = ("messages", "conversations", "channels", "users", "identities")
SCOPES = frozenset(
    {ADMIN, *(f"{name}:{right}" for name in RESOURCES for right in ("read", "write"))}
)


def unknown(scopes: list[str]) -> list[str]:
    """Return those that are no scopes."""
    return [scope for scope in scopes if scope not in SCOPES]
