"""The bare parts under the platform, each alone, before and after the load and never beside it.

They are the instance's own servers, asked as durably as the platform asks them: what they can do
is what anything built on them can at best. Everything written is taken away again.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple
from uuid import uuid4

import aiohttp
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from chaos.adapters.consul import address_of
from chaos.adapters.platform import Platform
from scripts.bench.figures import HTTP, KAFKA, MONGODB, POSTGRES, Part, latency_of
from services.contracts.ids import new_id
from services.contracts.topics import PARTITIONS
from services.runtime.mongo import client_of
from services.runtime.postgres import open_pool

ALONE_S = 1.0
FULL_S = 2.0
BATCH = 100
CONNECTIONS = 16
BODY = b"x" * 300


class Work(NamedTuple):
    """What a part does once, and what it does BATCH times as fast as it can."""

    one: Callable[[], Awaitable[object]]
    batch: Callable[[], Awaitable[object]]


async def measure_all(platform: Platform) -> dict[str, Part]:
    """Measure each part by itself."""
    consul, session = platform.consul_url, platform.session
    addresses = {
        name: await address_of(consul, name, session) for name in ("kafka", "mongodb", "postgres")
    }
    parts: Mapping[str, AbstractAsyncContextManager[Work]] = {
        HTTP: post(),
        KAFKA: produce(addresses["kafka"]),
        MONGODB: insert_documents(addresses["mongodb"]),
        POSTGRES: insert_rows(addresses["postgres"]),
    }
    found = {}
    for name, part in parts.items():
        async with part as work:
            found[name] = await measure(work)
    return found


async def measure(work: Work, alone_s: float = ALONE_S, full_s: float = FULL_S) -> Part:
    """Do it one after the other for a while, then in batches; the first ones are not counted."""
    clock = time.perf_counter
    await work.batch()
    await work.one()
    taken_ms = []
    ends = clock() + alone_s
    while (began := clock()) < ends:
        await work.one()
        taken_ms.append(1000 * (clock() - began))
    began, batches = clock(), 0
    while clock() < began + full_s:
        await work.batch()
        batches += 1
    return Part(per_s=batches * BATCH / (clock() - began), alone=latency_of(taken_ms))


@asynccontextmanager
async def post() -> AsyncIterator[Work]:
    """Lend an aiohttp server in a process of its own, and a client that keeps its connections."""
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.bench.echo"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if server.stdin is None or server.stdout is None:
        raise RuntimeError("the server was started without pipes")
    try:
        url = f"http://127.0.0.1:{int(await server.stdout.readline())}/"
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def one() -> None:
                async with session.post(url, data=BODY) as answer:
                    answer.raise_for_status()
                    await answer.read()

            async def batch() -> None:
                await asyncio.gather(*(one() for _ in range(BATCH)))

            yield Work(one, batch)
    finally:
        server.stdin.close()
        await server.wait()


@asynccontextmanager
async def produce(address: str) -> AsyncIterator[Work]:
    """Lend a producer to a topic of its own; every record is acknowledged by all replicas."""
    topic = f"bench-{uuid4().hex[:12]}"
    # The first records meet a broker that does not know yet that it leads the new partitions.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
        producer = AIOKafkaProducer(
            bootstrap_servers=address,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=262_144,
        )
        await producer.start()
        try:

            async def one() -> None:
                await producer.send_and_wait(topic, BODY, key=new_id().bytes)

            async def batch() -> None:
                sent = [await producer.send(topic, BODY, key=new_id().bytes) for _ in range(BATCH)]
                await asyncio.gather(*sent)

            yield Work(one, batch)
        finally:
            await producer.stop()
            await admin.delete_topics([topic])
    finally:
        await admin.close()


@asynccontextmanager
async def insert_documents(address: str) -> AsyncIterator[Work]:
    """Lend a collection in a database of its own; every write is on the disk."""
    name = f"bench_{uuid4().hex[:12]}"
    async with client_of(address) as client:
        documents = client[name].documents

        async def one() -> None:
            await documents.insert_one({"_id": new_id(), "body": BODY})

        async def batch() -> None:
            await documents.insert_many([{"_id": new_id(), "body": BODY} for _ in range(BATCH)])

        try:
            yield Work(one, batch)
        finally:
            await client.drop_database(name)


@asynccontextmanager
async def insert_rows(address: str) -> AsyncIterator[Work]:
    """Lend a table in a schema of its own; every statement is a transaction on the disk."""
    schema = f"bench_{uuid4().hex[:12]}"
    insert = f"insert into {schema}.line select * from unnest($1::uuid[], $2::bytea[])"  # noqa: S608
    async with await open_pool(address, os.environ["CHAT4ALL_POSTGRES_PASSWORD"]) as pool:
        await pool.execute(f"create schema {schema}")
        try:
            await pool.execute(f"create table {schema}.line (id uuid primary key, body bytea)")

            async def one() -> None:
                await pool.execute(insert, [new_id()], [BODY])

            async def batch() -> None:
                await pool.execute(insert, [new_id() for _ in range(BATCH)], [BODY] * BATCH)

            yield Work(one, batch)
        finally:
            await pool.execute(f"drop schema {schema} cascade")
