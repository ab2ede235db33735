"""Users, identities, API keys and the audit log in PostgreSQL."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from services.contracts.ids import new_id
from services.contracts.people import Address, ApiKeyGrant, ContactQuery, Kind, Person
from services.runtime.postgres import Pool, Postgres


class User(Struct, frozen=True, kw_only=True):
    """Somebody who writes or is written to."""

    user_id: UUID
    kind: Kind
    name: str
    created_at: datetime


class Identity(Struct, frozen=True, kw_only=True):
    """An address that belongs to a user."""

    identity_id: UUID
    user_id: UUID
    channel: str
    account: str | None
    address: str
    name: str | None
    created_at: datetime


class ApiKey(Struct, frozen=True, kw_only=True):
    """A key, without the key."""

    key_id: UUID
    name: str
    scopes: list[str]
    created_at: datetime
    revoked_at: datetime | None


class Event(Struct, frozen=True, kw_only=True):
    """One line of the audit log."""

    audit_id: UUID
    at: datetime
    actor: str
    action: str
    subject: UUID
    detail: Any


class Taken(Exception):  # noqa: N818 - an answer
    """It is there already: an address that is somebody's, a key that was stored before."""


class UnknownUser(Exception):  # noqa: N818 - an answer
    """There is no such user."""


NAME_LENGTH_MAX = 200
_FIRST = UUID(int=0)
_PEOPLE = """
    select p.user_id, p.kind, p.name, i.channel, i.address, i.account
    from users.person p left join users.identity i using (user_id)
"""


class Store:
    """Every change writes its line of the audit log in the same transaction."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    @property
    def _pool(self) -> Pool:
        return self._postgres.pool

    async def add_user(self, actor: str, kind: Kind, name: str) -> User:
        """Create a user."""
        async with self._pool.acquire() as connection, connection.transaction():
            return await _add_user(connection, actor, kind, name)

    async def rename_user(self, actor: str, user_id: UUID, name: str) -> User | None:
        """Give a user another name; None when there is none."""
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                "update users.person set name = $2 where user_id = $1 returning *", user_id, name
            )
            if row is None:
                return None
            await _note(connection, actor, "user.renamed", user_id, {})
            return User(**row)

    async def user(self, user_id: UUID) -> User | None:
        """Return a user."""
        row = await self._pool.fetchrow("select * from users.person where user_id = $1", user_id)
        return None if row is None else User(**row)

    async def users(self, after: UUID | None, count: int) -> list[User]:
        """Return users in the order of their creation."""
        rows = await self._pool.fetch(
            "select * from users.person where user_id > $1 order by user_id limit $2",
            after or _FIRST,
            count,
        )
        return [User(**row) for row in rows]

    async def add_identity(
        self,
        actor: str,
        user_id: UUID,
        *,
        channel: str,
        address: str,
        account: str | None,
        name: str | None,
    ) -> Identity:
        """Give a user an address; raise Taken or UnknownUser."""
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                return await _add_identity(
                    connection, actor, user_id, channel, address, account, name
                )
        except asyncpg.ForeignKeyViolationError as error:
            raise UnknownUser from error

    async def remove_identity(self, actor: str, identity_id: UUID) -> bool:
        """Take an address away; False when there is none."""
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                "delete from users.identity where identity_id = $1 returning user_id, channel",
                identity_id,
            )
            if row is None:
                return False
            detail = {"channel": row["channel"], "user_id": str(row["user_id"])}
            await _note(connection, actor, "identity.removed", identity_id, detail)
            return True

    async def identities(
        self, user_id: UUID | None, after: UUID | None, count: int
    ) -> list[Identity]:
        """Return identities, of one user or of all, in the order of their creation."""
        rows = await self._pool.fetch(
            "select * from users.identity where identity_id > $1"
            " and ($2::uuid is null or user_id = $2) order by identity_id limit $3",
            after or _FIRST,
            user_id,
            count,
        )
        return [Identity(**row) for row in rows]

    async def people(self, user_ids: Sequence[UUID]) -> list[Person]:
        """Return those of these users who exist, with all their addresses."""
        rows = await self._pool.fetch(
            f"{_PEOPLE} where p.user_id = any($1) order by p.user_id, i.identity_id",
            list(user_ids),
        )
        return _people(rows)

    async def contact(self, query: ContactQuery) -> Person:
        """Return the person behind an address, who is created when nobody has it."""
        account = query.account if query.account_scoped else None
        found = await self._owner(query.channel, account, query.address)
        if found is None:
            await self._create_contact(query, account)
            found = await self._owner(query.channel, account, query.address)
        if found is None:
            raise UnknownUser
        return (await self.people([found]))[0]

    async def _owner(self, channel: str, account: str | None, address: str) -> UUID | None:
        found: UUID | None = await self._pool.fetchval(
            "select user_id from users.identity where channel = $1 and address = $3"
            " and (account is null or account = $2) order by account nulls last limit 1",
            channel,
            account,
            address,
        )
        return found

    async def _create_contact(self, query: ContactQuery, account: str | None) -> None:
        """Create user and identity together; of two at once one wins and nothing else stays."""
        name = _storable(query.name or "") or None
        called = name or _storable(query.address)
        async with self._pool.acquire() as connection:
            with suppress(Taken):
                async with connection.transaction():
                    user = await _add_user(connection, "inbound", Kind.CUSTOMER, called)
                    await _add_identity(
                        connection,
                        "inbound",
                        user.user_id,
                        query.channel,
                        query.address,
                        account,
                        name,
                    )

    async def add_api_key(
        self, actor: str, name: str, sha256: str, scopes: Sequence[str]
    ) -> ApiKey:
        """Store the hash of a new key; raise Taken when it was stored before, revoked or not."""
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                "insert into users.api_key (key_id, name, sha256, scopes) values ($1, $2, $3, $4)"
                " on conflict (sha256) do nothing"
                " returning key_id, name, scopes, created_at, revoked_at",
                new_id(),
                name,
                sha256,
                list(scopes),
            )
            if row is None:
                raise Taken
            key = ApiKey(**row)
            await _note(connection, actor, "api_key.added", key.key_id, {"scopes": key.scopes})
            return key

    async def revoke_api_key(self, actor: str, key_id: UUID) -> bool:
        """Revoke a key for ever; False when there is none."""
        async with self._pool.acquire() as connection, connection.transaction():
            found = await connection.fetchval(
                "update users.api_key set revoked_at = coalesce(revoked_at, clock_timestamp())"
                " where key_id = $1 returning key_id",
                key_id,
            )
            if found is None:
                return False
            await _note(connection, actor, "api_key.revoked", key_id, {})
            return True

    async def api_keys(self, after: UUID | None, count: int) -> list[ApiKey]:
        """Return keys in the order of their creation, without the keys."""
        rows = await self._pool.fetch(
            "select key_id, name, scopes, created_at, revoked_at from users.api_key"
            " where key_id > $1 order by key_id limit $2",
            after or _FIRST,
            count,
        )
        return [ApiKey(**row) for row in rows]

    async def grant(self, sha256: str) -> ApiKeyGrant | None:
        """Return what a key may do; None when it is unknown or revoked."""
        row = await self._pool.fetchrow(
            "select key_id, name, scopes from users.api_key"
            " where sha256 = $1 and revoked_at is null",
            sha256,
        )
        if row is None:
            return None
        return ApiKeyGrant(key_id=row["key_id"], name=row["name"], scopes=tuple(row["scopes"]))

    async def audit(self, after: UUID | None, count: int) -> list[Event]:
        """Return the audit log in the order of what happened."""
        rows = await self._pool.fetch(
            "select * from users.audit where audit_id > $1 order by audit_id limit $2",
            after or _FIRST,
            count,
        )
        return [
            Event(**{**dict(row), "detail": msgspec.json.decode(row["detail"])}) for row in rows
        ]


async def _add_user(connection: Any, actor: str, kind: Kind, name: str) -> User:
    row = await connection.fetchrow(
        "insert into users.person (user_id, kind, name) values ($1, $2, $3) returning *",
        new_id(),
        kind,
        name,
    )
    await _note(connection, actor, "user.added", row["user_id"], {"kind": kind})
    return User(**row)


async def _add_identity(
    connection: Any,
    actor: str,
    user_id: UUID,
    channel: str,
    address: str,
    account: str | None,
    name: str | None,
) -> Identity:
    row = await connection.fetchrow(
        "insert into users.identity (identity_id, user_id, channel, address, account, name)"
        " values ($1, $2, $3, $4, $5, $6)"
        " on conflict (channel, coalesce(account, ''), address) do nothing returning *",
        new_id(),
        user_id,
        channel,
        address,
        account,
        name,
    )
    if row is None:
        raise Taken
    detail = {"channel": channel, "user_id": str(user_id)}
    await _note(connection, actor, "identity.added", row["identity_id"], detail)
    return Identity(**row)


async def _note(
    connection: Any, actor: str, action: str, subject: UUID, detail: dict[str, Any]
) -> None:
    await connection.execute(
        "insert into users.audit (audit_id, actor, action, subject, detail)"
        " values ($1, $2, $3, $4, $5)",
        new_id(),
        actor,
        action,
        subject,
        msgspec.json.encode(detail).decode(),
    )


def _storable(name: str) -> str:
    """Return as much of a stranger's name as fits; PostgreSQL keeps no NUL."""
    return name.replace("\0", "")[:NAME_LENGTH_MAX]


def _people(rows: Sequence[Any]) -> list[Person]:
    found: dict[UUID, Person] = {}
    for row in rows:
        person = found.get(row["user_id"])
        if person is None:
            person = Person(user_id=row["user_id"], kind=Kind(row["kind"]), name=row["name"])
        if row["channel"] is not None:
            address = Address(
                channel=row["channel"], address=row["address"], account=row["account"]
            )
            person = msgspec.structs.replace(person, addresses=(*person.addresses, address))
        found[person.user_id] = person
    return list(found.values())
