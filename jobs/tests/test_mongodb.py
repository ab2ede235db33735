"""The MongoDB of a local cluster, or what stands in for it, as its job starts it."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from jobs.tests.parsed import job, task_of
from scripts.tools import find
from services.runtime.mongo import Document, client_of

KILLS = 3
DOCUMENTS = 1000
"""So many are acknowledged before each kill."""
WRITERS = 8
Documents = AsyncCollection[Document]


@pytest.mark.connected
async def test_no_acknowledged_document_dies_with_its_process(tmp_path: Path) -> None:
    """Killed in the middle of writes, it comes back with all that it acknowledged."""
    acknowledged: set[UUID] = set()
    for _ in range(KILLS):
        async with _killed_at_the_end(tmp_path) as documents:
            writing = [asyncio.create_task(_write(documents, acknowledged)) for _ in range(WRITERS)]
            enough = len(acknowledged) + DOCUMENTS
            while len(acknowledged) < enough:
                await asyncio.sleep(0.001)
        await asyncio.gather(*writing)
        async with _killed_at_the_end(tmp_path) as documents:
            assert acknowledged <= {one["_id"] async for one in documents.find()}


@asynccontextmanager
async def _killed_at_the_end(data: Path) -> AsyncIterator[Documents]:
    """Run the server, answering, and lend a collection of it."""
    port = _unused_port()
    async with client_of(f"127.0.0.1:{port}") as client:
        process = _start(port, data)
        try:
            await _answers(client)
            yield client.test.documents
        finally:
            process.kill()
            process.wait()


def _unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _start(port: int, data: Path) -> subprocess.Popen[bytes]:
    tool = find("mongodb")
    task = task_of(
        job(
            "infra/mongodb",
            mongodb_binary=str(tool.path),
            mongodb_flavour=tool.flavour,
            mongodb_data=str(data),
            mongodb_port=str(port),
        )
    )
    command = [task["Config"]["command"], *task["Config"]["args"]]
    return subprocess.Popen(command, env=os.environ | (task["Env"] or {}))  # noqa: S603 - ours


async def _answers(client: AsyncMongoClient[Document]) -> None:
    while True:
        with suppress(PyMongoError):
            await client.admin.command("ping")
            return
        await asyncio.sleep(0.05)


async def _write(documents: Documents, acknowledged: set[UUID]) -> None:
    """Write until nobody answers any more."""
    with suppress(PyMongoError):
        while True:
            new = [uuid4() for _ in range(4)]
            await documents.insert_many([{"_id": one} for one in new], ordered=False)
            acknowledged.update(new)
