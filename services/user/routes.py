"""The API of users, identities, API keys and the audit log."""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import UUID

import msgspec
from aiohttp import web

from services.contracts.people import (
    ApiKeyGrant,
    ApiKeyQuery,
    ContactQuery,
    People,
    PeopleQuery,
    Person,
)
from services.contracts.problems import Problem
from services.runtime.http.pages import Page, cursor_of, position_of
from services.runtime.http.routes import endpoint
from services.user import scopes
from services.user.store import Identity, Store, Taken, UnknownUser
from services.user.views import (
    ApiKeyView,
    EventView,
    IdentitiesQuery,
    IdentityPath,
    IdentityView,
    KeyPath,
    NewApiKey,
    NewApiKeyView,
    NewIdentity,
    NewName,
    NewUser,
    PageQuery,
    UserPath,
    UserView,
    api_key_view,
    event_view,
    identity_view,
    user_view,
)

API_KEY_ID_HEADER = "X-Api-Key-Id"
KEY_PREFIX = "c4a_"
KEY_BYTES = 32
GATEWAY_CACHE_S = 1.0
"""How long a gateway may go on with what it was last told of a key."""
T = TypeVar("T")
V = TypeVar("V")


class UserRoutes:
    """Answers for users and identities."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @endpoint("POST", "/api/v1/users", status=201)
    async def add(self, body: NewUser, request: web.Request) -> UserView:
        """Create a user."""
        return user_view(await self._store.add_user(_actor(request), body.kind, body.name))

    @endpoint("GET", "/api/v1/users")
    async def list_users(self, query: PageQuery) -> Page[UserView]:
        """List the users."""
        return await _page(query, "users", self._store.users, user_view, lambda v: v.user_id)

    @endpoint("GET", "/api/v1/users/{user_id}")
    async def show(self, path: UserPath) -> UserView:
        """Show a user."""
        found = await self._store.user(path.user_id)
        if found is None:
            raise Problem("not_found")
        return user_view(found)

    @endpoint("PATCH", "/api/v1/users/{user_id}")
    async def rename(self, path: UserPath, body: NewName, request: web.Request) -> UserView:
        """Give a user another name."""
        found = await self._store.rename_user(_actor(request), path.user_id, body.name)
        if found is None:
            raise Problem("not_found")
        return user_view(found)

    @endpoint("POST", "/api/v1/identities", status=201, codes=("identity_taken", "unknown_user"))
    async def add_identity(self, body: NewIdentity, request: web.Request) -> IdentityView:
        """Give a user an address on a channel."""
        try:
            found = await self._store.add_identity(
                _actor(request),
                body.user_id,
                channel=body.channel,
                address=body.address,
                account=body.account,
                name=body.name,
            )
        except Taken as error:
            raise Problem("identity_taken", field="address") from error
        except UnknownUser as error:
            raise Problem("unknown_user", field="user_id") from error
        return identity_view(found)

    @endpoint("GET", "/api/v1/identities")
    async def list_identities(self, query: IdentitiesQuery) -> Page[IdentityView]:
        """List the identities of a user, or of all."""
        listing = f"identities {query.user_id}"

        async def fetch(after: UUID | None, count: int) -> Sequence[Identity]:
            return await self._store.identities(query.user_id, after, count)

        return await _page(query, listing, fetch, identity_view, lambda v: v.identity_id)

    @endpoint("DELETE", "/api/v1/identities/{identity_id}")
    async def remove_identity(self, path: IdentityPath, request: web.Request) -> None:
        """Take an address away from its user."""
        if not await self._store.remove_identity(_actor(request), path.identity_id):
            raise Problem("not_found")

    @endpoint("GET", "/api/v1/audit")
    async def list_audit(self, query: PageQuery) -> Page[EventView]:
        """List who did what."""
        return await _page(query, "audit", self._store.audit, event_view, lambda v: v.audit_id)


class ApiKeyRoutes:
    """Answers for API keys."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @endpoint("POST", "/api/v1/api-keys", status=201)
    async def add(self, body: NewApiKey, request: web.Request) -> NewApiKeyView:
        """Create an API key, which is shown this once."""
        if wrong := scopes.unknown(body.scopes):
            raise Problem("invalid_field", f"Unknown: {', '.join(wrong)[:200]}.", field="scopes")
        key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
        digest = hashlib.sha256(key.encode()).hexdigest()
        found = await self._store.add_api_key(_actor(request), body.name, digest, body.scopes)
        return NewApiKeyView(key=key, **msgspec.structs.asdict(api_key_view(found)))

    @endpoint("GET", "/api/v1/api-keys")
    async def list_keys(self, query: PageQuery) -> Page[ApiKeyView]:
        """List the API keys, without the keys."""
        return await _page(query, "keys", self._store.api_keys, api_key_view, lambda v: v.key_id)

    @endpoint("DELETE", "/api/v1/api-keys/{key_id}")
    async def revoke(self, path: KeyPath, request: web.Request) -> None:
        """Revoke a key; once this is answered no gateway takes it any more.

        A gateway may go on for its cache time with what it was told, so this waits that long.
        Only a gateway that cannot reach this service meanwhile goes on for up to 30 s.
        """
        if not await self._store.revoke_api_key(_actor(request), path.key_id):
            raise Problem("not_found")
        await asyncio.sleep(GATEWAY_CACHE_S)


class InternalRoutes:
    """Answers for sibling services."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @endpoint("POST", "/internal/people")
    async def people(self, body: PeopleQuery) -> People:
        """Return the people among these ids."""
        return People(await self._store.people(body.user_ids))

    @endpoint("POST", "/internal/contacts")
    async def contact(self, body: ContactQuery) -> Person:
        """Return the person behind an inbound address, created when unknown."""
        return await self._store.contact(body)

    @endpoint("POST", "/internal/api-keys/verify")
    async def verify(self, body: ApiKeyQuery) -> ApiKeyGrant:
        """Return what a key may do; 404 when it is unknown or revoked."""
        grant = await self._store.grant(body.sha256)
        if grant is None:
            raise Problem("not_found")
        return grant


async def _page(
    query: PageQuery,
    listing: str,
    fetch: Callable[[UUID | None, int], Awaitable[Sequence[T]]],
    view: Callable[[T], V],
    position: Callable[[V], UUID],
) -> Page[V]:
    after = position_of(query.cursor, listing, UUID) if query.cursor else None
    found = await fetch(after, query.limit + 1)
    shown = [view(item) for item in found[: query.limit]]
    more = len(found) > len(shown)
    return Page(shown, cursor_of(listing, str(position(shown[-1]))) if more else None)


def _actor(request: web.Request) -> str:
    return request.headers.get(API_KEY_ID_HEADER, "internal")
