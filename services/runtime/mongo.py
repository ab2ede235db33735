"""MongoDB: connected in the background, durable writes, a fair queue before the pool."""

import asyncio
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConnectionFailure, ExecutionTimeout, NotPrimaryError, PyMongoError

from services.runtime.app import App
from services.runtime.config import Config
from services.runtime.health import REMOTE_FRESH_S
from services.runtime.tasks import note_failure
from services.runtime.unavailable import Unavailable, register

NAME = "mongodb"
DATABASE = "chat4all"
POOL_SIZE_MAX = 32
SELECTION_TIMEOUT_MS = 2000
OPERATION_TIMEOUT_MS = 5000
TURN_TIMEOUT_S = 2.0

register(NAME, ConnectionFailure, ExecutionTimeout, NotPrimaryError)
Document = dict[str, Any]


def client_of(address: str) -> AsyncMongoClient[Document]:
    """Return a client whose acknowledged writes survive the death of the server's process."""
    return AsyncMongoClient(
        f"mongodb://{address}/",
        w="majority",
        journal=True,
        directConnection=True,
        maxPoolSize=POOL_SIZE_MAX,
        serverSelectionTimeoutMS=SELECTION_TIMEOUT_MS,
        connectTimeoutMS=SELECTION_TIMEOUT_MS,
        socketTimeoutMS=OPERATION_TIMEOUT_MS,
        tz_aware=True,
        uuidRepresentation="standard",
    )


class _Loan:
    """The database for as long as a turn lasts."""

    __slots__ = ("_database", "_turns")

    def __init__(self, database: AsyncDatabase[Document], turns: asyncio.Semaphore) -> None:
        self._database = database
        self._turns = turns

    async def __aenter__(self) -> AsyncDatabase[Document]:
        if self._turns.locked():
            try:
                async with asyncio.timeout(TURN_TIMEOUT_S):
                    await self._turns.acquire()
            except TimeoutError:
                raise Unavailable(NAME, "too many wait for it") from None
        else:
            await self._turns.acquire()
        return self._database

    async def __aexit__(self, *_: object) -> None:
        self._turns.release()


class Mongo:
    """The platform's MongoDB database, for as long as a process lives."""

    def __init__(self, app: App[Any]) -> None:
        self._database: AsyncDatabase[Document] | None = None
        self._turns = asyncio.Semaphore(POOL_SIZE_MAX)
        self._ping: asyncio.Task[Document] | None = None
        self._app = app
        app.health.add(NAME, self._probe, fresh_s=REMOTE_FRESH_S)
        app.on_stop(NAME, self._close)
        app.spawn(NAME, self._connect(app.config))

    def database(self) -> "_Loan":
        """Lend the database in order of arrival, one pooled connection for each borrower.

        pymongo's pool serves its waiters in no order; the queue here is first in, first out.
        Who waits too long for a turn is told that MongoDB is away.
        """
        if self._database is None:
            raise Unavailable(NAME, "its address is not known yet")
        return _Loan(self._database, self._turns)

    async def _connect(self, config: Config) -> None:
        address = config.mongodb_address or await self._app.discovery.address(NAME)
        self._database = client_of(address)[DATABASE]

    async def _probe(self) -> None:
        """Ask for a sign of life; who waits no longer leaves the question to its own deadlines.

        pymongo's pool never forgets an operation that is cancelled while it connects: two of them,
        and nobody gets a connection any more.
        """
        if self._database is None:
            raise Unavailable(NAME, "its address is not known yet")
        if self._ping is None or self._ping.done():
            ping = self._database.command("ping")
            self._ping = asyncio.create_task(ping, name="mongodb-ping")
            self._ping.add_done_callback(note_failure)
        await asyncio.shield(self._ping)

    async def _close(self) -> None:
        if self._database is not None:
            await self._database.client.close()


__all__ = ["Document", "Mongo", "PyMongoError", "client_of"]
