"""What the API takes and shows of users, identities, API keys and the audit log."""

from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from services.contracts.people import Kind
from services.contracts.times import rfc3339
from services.runtime.http.pages import PAGE_LENGTH, Cursor, Limit
from services.runtime.http.routes import Channel, Label, Timestamp
from services.user.scopes import SCOPES
from services.user.store import ApiKey, Event, Identity, User

AccountName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\A[A-Za-z0-9_.-]+\Z")]

Scope = Annotated[str, Meta(extra_json_schema={"enum": sorted(SCOPES)})]


class NewUser(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks for a user."""

    kind: Kind
    name: Label


class NewName(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks for another name."""

    name: Label


class NewIdentity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks for an address to be a user's; no account means any of ours."""

    user_id: UUID
    channel: Channel
    address: Annotated[Label, Meta(examples=["5511999990000"])]
    account: Annotated[AccountName, Meta(examples=["main"])] | None = None
    name: Label | None = None


class NewApiKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks for an API key with these scopes."""

    name: Label
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=32)]


class UserPath(Struct, frozen=True):
    """Names a user."""

    user_id: UUID


class IdentityPath(Struct, frozen=True):
    """Names an identity."""

    identity_id: UUID


class KeyPath(Struct, frozen=True):
    """Names an API key."""

    key_id: UUID


class PageQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of a list is wanted."""

    limit: Limit = PAGE_LENGTH
    cursor: Cursor | None = None


class IdentitiesQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of whose identities is wanted."""

    user_id: UUID | None = None


class UserView(Struct, frozen=True, kw_only=True):
    """A user."""

    user_id: UUID
    kind: Kind
    name: str
    created_at: Timestamp


class IdentityView(Struct, frozen=True, kw_only=True):
    """An address of a user."""

    identity_id: UUID
    user_id: UUID
    channel: str
    account: str | None
    address: str
    name: str | None
    created_at: Timestamp


class ApiKeyView(Struct, frozen=True, kw_only=True):
    """An API key, without the key."""

    key_id: UUID
    name: str
    scopes: list[str]
    created_at: Timestamp
    revoked_at: Timestamp | None


class NewApiKeyView(ApiKeyView, frozen=True, kw_only=True):
    """A new API key: the only time that the key is shown."""

    key: str


class EventView(Struct, frozen=True, kw_only=True):
    """One line of the audit log."""

    audit_id: UUID
    at: Timestamp
    actor: str
    action: str
    subject: UUID
    detail: Any


def user_view(user: User) -> UserView:
    """Show a user."""
    return UserView(
        user_id=user.user_id, kind=user.kind, name=user.name, created_at=rfc3339(user.created_at)
    )


def identity_view(identity: Identity) -> IdentityView:
    """Show an identity."""
    return IdentityView(
        identity_id=identity.identity_id,
        user_id=identity.user_id,
        channel=identity.channel,
        account=identity.account,
        address=identity.address,
        name=identity.name,
        created_at=rfc3339(identity.created_at),
    )


def api_key_view(key: ApiKey) -> ApiKeyView:
    """Show an API key, without the key."""
    return ApiKeyView(
        key_id=key.key_id,
        name=key.name,
        scopes=key.scopes,
        created_at=rfc3339(key.created_at),
        revoked_at=rfc3339(key.revoked_at) if key.revoked_at else None,
    )


def event_view(event: Event) -> EventView:
    """Show a line of the audit log."""
    return EventView(
        audit_id=event.audit_id,
        at=rfc3339(event.at),
        actor=event.actor,
        action=event.action,
        subject=event.subject,
        detail=event.detail,
    )
