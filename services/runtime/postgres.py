"""PostgreSQL: a pool connected in the background, and migrations in plain SQL files."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg

from services.runtime.app import App
from services.runtime.config import Config
from services.runtime.health import REMOTE_FRESH_S
from services.runtime.telemetry.log import log
from services.runtime.unavailable import Unavailable, register

NAME = "postgres"
USER = DATABASE = "chat4all"
POOL_SIZE_MAX = 6
OPERATION_TIMEOUT_S = 5.0
RETRY_S = 0.5
_MIGRATION_LOCK = 0x63686174

# A connection that is lost under a query shows as any of these.
_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
register(NAME, *_AWAY)
# What PostgreSQL says of the work itself: it will say so again.
register(None, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
register(None, asyncpg.SyntaxOrAccessError)
_log = log(__name__)
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class MigrationChanged(Exception):  # noqa: N818 - a sentence for the operator
    """A migration that was applied has another text now; applied migrations never change."""


async def open_pool(address: str, password: str, *, database: str = DATABASE) -> Pool:
    """Return a pool of connections whose every statement has a deadline."""
    host, port = address.rsplit(":", 1)
    return await asyncpg.create_pool(
        host=host,
        port=int(port),
        user=USER,
        password=password,
        database=database,
        min_size=1,
        max_size=POOL_SIZE_MAX,
        command_timeout=OPERATION_TIMEOUT_S,
        timeout=OPERATION_TIMEOUT_S,
        server_settings={
            "synchronous_commit": "on",
            "timezone": "UTC",
            "plan_cache_mode": "force_generic_plan",
        },
        reset=_as_it_was,
    )


async def _as_it_was(_connection: object) -> None:
    """Hand a connection on as it is: nothing here changes a session, and a reset costs a query."""


class Postgres:
    """A service's own schema in the platform's database, for as long as a process lives."""

    def __init__(self, app: App[Any], schema: str, migrations: Path) -> None:
        self._pool: Pool | None = None
        self._schema = schema
        self._migrations = migrations
        self._app = app
        self.connected = asyncio.Event()
        app.health.add(NAME, self._probe, fresh_s=REMOTE_FRESH_S)
        app.on_stop(NAME, self._close)
        app.spawn(NAME, self._connect(app.config))

    @property
    def pool(self) -> Pool:
        """The pool; raises Unavailable until the first connection was made and migrated."""
        if self._pool is None:
            raise Unavailable(NAME, "it was not reached yet")
        return self._pool

    async def _connect(self, config: Config) -> None:
        while True:
            address = config.postgres_address or await self._app.discovery.address(NAME)
            try:
                pool = await open_pool(address, config.postgres_password)
                await migrate(pool, self._schema, self._migrations)
            except (OSError, TimeoutError, *_AWAY) as error:
                _log.warning("postgres_not_reached", error=repr(error))
                await asyncio.sleep(RETRY_S)
                continue
            self._pool = pool
            self.connected.set()
            return

    async def _probe(self) -> None:
        await self.pool.fetchval("select 1")

    async def _close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()


async def migrate(pool: Pool, schema: str, folder: Path) -> None:
    """Apply the SQL files of a folder that were not applied yet, in the order of their names."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
        await connection.execute(f"create schema if not exists {schema}")
        await connection.execute(
            f"create table if not exists {schema}.migration"
            " (name text primary key, checksum text not null, at timestamptz default now())"
        )
        rows = await connection.fetch(f"select name, checksum from {schema}.migration")  # noqa: S608
        applied = {row["name"]: row["checksum"] for row in rows}
        for file in sorted(folder.glob("*.sql")):
            text = file.read_text()
            checksum = hashlib.sha256(text.encode()).hexdigest()
            if file.name not in applied:
                await connection.execute(text)
                await connection.execute(
                    f"insert into {schema}.migration (name, checksum) values ($1, $2)",  # noqa: S608
                    file.name,
                    checksum,
                )
            elif applied[file.name] != checksum:
                raise MigrationChanged(f"{file.name} was changed after it had been applied")
