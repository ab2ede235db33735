"""A message service on real MongoDB, among doubles of Consul, the user service and Kafka."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import msgspec
import pytest
from aiohttp import web

from services.contracts.channels import (
    STATES_PREFIX,
    AccountState,
    AccountStatus,
    Capabilities,
    ChannelState,
)
from services.contracts.people import Address, ContactQuery, Kind, People, PeopleQuery, Person
from services.contracts.status import Status
from services.message.app import serve
from services.message.config import MessageConfig
from services.message.history import History
from services.message.letters import LetterStore
from services.message.messages import Message
from services.message.people import KnownPeople
from services.message.store import ConversationStore, MessageStore, to_document
from services.runtime import mongo as runtime_mongo
from services.runtime.app import App
from services.runtime.consul import Consul
from services.runtime.kafka.producer import Outgoing, Producer
from services.runtime.mongo import Mongo
from services.runtime.unavailable import Unavailable

TOKEN = "an-internal-token-for-tests"
CHANNEL = "WHATSAPP"
TEXT_LENGTH_MAX = 4096
WAIT_TIMEOUT_S = 20
WAIT_POLL_S = 0.02
OK = 200


def channel_state(channel: str, status: AccountStatus = AccountStatus.ENABLED) -> ChannelState:
    """Return a deployed channel with one account."""
    return ChannelState(
        channel=channel,
        capabilities=Capabilities(
            receipts=(Status.SENT, Status.DELIVERED, Status.READ), text_length_max=TEXT_LENGTH_MAX
        ),
        accounts={"main": AccountState(status=status, checked_at=datetime.now(UTC))},
    )


@dataclass
class Neighbours:
    """Answers in place of Consul and of the user service, over HTTP."""

    people: dict[UUID, Person] = field(default_factory=dict)
    user_away: bool = False
    asked: int = 0
    port: int = 0
    keys: dict[str, bytes] = field(default_factory=dict)
    index: int = 1
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    def add(self, kind: Kind, *addresses: Address) -> UUID:
        """Create a person."""
        user_id = uuid4()
        self.people[user_id] = Person(
            user_id=user_id, kind=kind, name=kind.value, addresses=addresses
        )
        return user_id

    def agent(self) -> UUID:
        """Create an agent."""
        return self.add(Kind.AGENT)

    def customer(self, channel: str = CHANNEL) -> UUID:
        """Create a customer with an address."""
        return self.add(Kind.CUSTOMER, Address(channel=channel, address=uuid4().hex))

    async def put(self, key: str, value: bytes) -> None:
        """Set a key and wake those who watch."""
        self.keys[key] = value
        self.index += 1
        async with self.moved:
            self.moved.notify_all()

    def app(self) -> web.Application:
        """Return the application that answers."""
        app = web.Application()
        app.router.add_get("/v1/health/service/{name}", self._health)
        app.router.add_get("/v1/kv/{prefix:.*}", self._keys)
        app.router.add_put("/v1/kv/{key:.*}", self._put)
        app.router.add_post("/internal/people", self._people)
        app.router.add_post("/internal/contacts", self._contacts)
        return app

    async def _watched(self, request: web.Request, answer: Any) -> web.Response:
        async with self.moved:
            await self.moved.wait_for(lambda: str(self.index) != request.query.get("index"))
        return web.json_response(answer(), headers={"X-Consul-Index": str(self.index)})

    async def _health(self, request: web.Request) -> web.Response:
        entry = {"Service": {"Address": "127.0.0.1", "Port": self.port}}
        known = request.match_info["name"] == "user"
        return await self._watched(request, lambda: [entry] if known else [])

    async def _keys(self, request: web.Request) -> web.Response:
        prefix = request.match_info["prefix"]
        return await self._watched(
            request,
            lambda: [
                {"Key": key, "Value": base64.b64encode(value).decode()}
                for key, value in self.keys.items()
                if key.startswith(prefix)
            ],
        )

    async def _put(self, request: web.Request) -> web.Response:
        await self.put(request.match_info["key"], await request.read())
        return web.json_response(True)

    async def _people(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.user_away:
            return web.Response(status=503)
        query = msgspec.json.decode(await request.read(), type=PeopleQuery)
        found = [self.people[one] for one in query.user_ids if one in self.people]
        return web.Response(body=msgspec.json.encode(People(found)))

    async def _contacts(self, request: web.Request) -> web.Response:
        if self.user_away:
            return web.Response(status=503)
        query = msgspec.json.decode(await request.read(), type=ContactQuery)
        wanted = Address(channel=query.channel, address=query.address)
        for person in self.people.values():
            if person.address_on(query.channel) == wanted:
                return web.Response(body=msgspec.json.encode(person))
        return web.Response(body=msgspec.json.encode(self.people[self.add(Kind.CUSTOMER, wanted)]))


class Topics(Producer):
    """Keeps what is published, in order; may be away."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.away = False

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Keep the records, or refuse them all."""
        if self.away:
            raise Unavailable("kafka")
        self.published.extend(outgoing)

    def on(self, topic: str) -> list[Any]:
        """Return the records of a topic."""
        return [outgoing.record for outgoing in self.published if outgoing.topic == topic]


@dataclass
class Bench:
    """The service, its neighbours, and a client that may call it."""

    app: App[MessageConfig]
    neighbours: Neighbours
    topics: Topics
    mongo: Mongo
    messages: MessageStore
    conversations: ConversationStore
    history: History
    letters: LetterStore
    people: KnownPeople
    client: aiohttp.ClientSession

    async def post(self, path: str, body: object, **headers: str) -> tuple[int, Any, Any]:
        """Post a body; return status, answer and headers."""
        return await self.call("POST", path, body, **headers)

    async def get(self, path: str) -> tuple[int, Any, Any]:
        """Get a path; return status, answer and headers."""
        return await self.call("GET", path)

    async def call(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any, Any]:
        """Send a request; return status, answer and headers."""
        content = {"Content-Type": "application/json"} if body is not None else {}
        async with self.client.request(
            method,
            f"/api/v1{path}",
            data=None if body is None else msgspec.json.encode(body),
            headers={**content, **{k.replace("_", "-"): v for k, v in headers.items()}},
        ) as answer:
            text = await answer.read()
            return answer.status, msgspec.json.decode(text) if text else None, answer.headers

    async def keep(self, *messages: Message) -> None:
        """Put messages into the collection as they are, past their conversation."""
        async with self.mongo.database() as database:
            await database.messages.insert_many([to_document(one) for one in messages])

    async def talk(self) -> tuple[UUID, UUID, UUID]:
        """Open a conversation; return its id, an agent in it and a customer in it."""
        agent, customer = self.neighbours.agent(), self.neighbours.customer()
        status, body, _ = await self.post(
            "/conversations", {"participants": [agent, customer], "primary_channel": CHANNEL}
        )
        assert status == 201, body
        return UUID(body["conversation_id"]), agent, customer


@asynccontextmanager
async def served(application: web.Application) -> AsyncIterator[int]:
    """Serve an application on a free port of this machine."""
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def configuration(mongodb_address: str, consul_port: int) -> MessageConfig:
    """Return what the service is told in these tests."""
    return MessageConfig(
        service_name="message",
        instance_id="test",
        http_host="127.0.0.1",
        http_port=1,
        consul_http_addr=f"127.0.0.1:{consul_port}",
        internal_token=TOKEN,
        mongodb_address=mongodb_address,
    )


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds; fail when it takes too long."""
    async with asyncio.timeout(WAIT_TIMEOUT_S):
        while not await holds():
            await asyncio.sleep(WAIT_POLL_S)


async def publish_channel(bench: Bench, channel: str, account: AccountStatus) -> None:
    """Let a channel appear in the directory, and wait until the service knows."""
    state = channel_state(channel, account)
    await bench.neighbours.put(STATES_PREFIX + channel, msgspec.json.encode(state))

    async def known() -> bool:
        return (await bench.get(f"/channels/{channel}"))[0] == OK

    await until(known)


@pytest.fixture(scope="module")
async def bench(mongodb_address: str) -> AsyncIterator[Bench]:
    """A running service with a database of its own."""
    neighbours, topics = Neighbours(), Topics()
    await neighbours.put(STATES_PREFIX + CHANNEL, msgspec.json.encode(channel_state(CHANNEL)))
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(runtime_mongo, "DATABASE", f"test_message_{uuid4().hex[:8]}")
        neighbours.port = await stack.enter_async_context(served(neighbours.app()))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        config = configuration(mongodb_address, neighbours.port)
        app = App(config, session, Consul(config.consul_http_addr, session))
        stack.push_async_callback(app.close)
        mongo = Mongo(app)
        shared = serve(app, mongo, topics)
        port = await stack.enter_async_context(served(app.http))
        client = await stack.enter_async_context(
            aiohttp.ClientSession(
                f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {TOKEN}"}
            )
        )

        async def ready() -> bool:
            return not await app.health.down()

        await until(ready)
        yield Bench(app, neighbours, topics, mongo, *shared, client)
        async with mongo.database() as database:
            await database.client.drop_database(database.name)
