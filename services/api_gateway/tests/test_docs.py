"""The API's description at the gateway: open to all, whole, and there while a service is away."""

from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp
import msgspec
import pytest
from aiohttp.test_utils import BaseTestServer, TestServer
from msgspec import Struct
from openapi_spec_validator import validate

from services.api_gateway.docs import FRESH_S, RETRY_S, Docs
from services.api_gateway.keys import Keys
from services.api_gateway.routes import GatewayRoutes
from services.contracts.people import ApiKeyGrant
from services.runtime.channels import Channels
from services.runtime.health import Health
from services.runtime.http.client import Siblings
from services.runtime.http.openapi import part_of
from services.runtime.http.routes import endpoint
from services.runtime.http.server import create
from services.runtime.http.wire import Answer
from services.runtime.unavailable import Unavailable


class Message(Struct, frozen=True):
    """A message."""

    content: str


class MessageRoutes:
    """What the message service has."""

    @endpoint("GET", "/api/v1/messages")
    async def show(self) -> Message:
        """Show a message."""
        return Message("")

    @endpoint("GET", "/api/v1/unheard-of")
    async def unheard_of(self) -> Message:
        """Show what the gateway does not let through."""
        return Message("")


class UserRoutes:
    """What the user service has."""

    @endpoint("POST", "/api/v1/api-keys")
    async def add(self, body: Message) -> Message:
        """Add a key."""
        return body


class Services(Siblings):
    """Both services: they count questions, and may be away, old, or at odds."""

    def __init__(self) -> None:
        self.parts = {"message": part_of(MessageRoutes()), "user": part_of(UserRoutes())}
        self.asked = 0
        self.away = False
        self.status = 200

    async def request(self, service: str, method: str, path: str, **_: Any) -> Answer:
        """Answer with a service's part."""
        assert (method, path) == ("GET", "/internal/openapi")
        self.asked += 1
        if self.away:
            raise Unavailable(service)
        return Answer(self.status, {}, msgspec.json.encode(self.parts[service]))


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def services() -> Services:
    """Return the services behind the gateway."""
    return Services()


@pytest.fixture
def clock() -> Clock:
    """Return the gateway's clock."""
    return Clock()


@pytest.fixture
async def gateway(services: Services, clock: Clock) -> AsyncIterator[BaseTestServer]:
    """Serve the gateway."""

    async def nobody(_digest: str) -> ApiKeyGrant | None:
        return None

    routes = GatewayRoutes(services, Keys(nobody, clock), cast("Channels", None))
    app = create("api-gateway", Health(), lambda: routes.guard)
    app.router.add_routes(Docs(services, clock).routes())
    app.router.add_route("*", "/api/v1/{resource}", routes.api)
    async with TestServer(app) as server:
        yield server


@pytest.fixture
async def session(gateway: BaseTestServer) -> AsyncIterator[aiohttp.ClientSession]:
    """Lend a client without an API key."""
    async with aiohttp.ClientSession(gateway.make_url("/")) as made:
        yield made


async def test_the_description_is_one_of_all_services(session: aiohttp.ClientSession) -> None:
    """It is valid and holds what the gateway lets through, each with its scope, and its own."""
    async with session.get("/openapi.json") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        found = await answer.json()
    validate(found)
    paths = found["paths"]
    assert paths["/api/v1/messages"]["get"]["security"] == [{"api_key": ["messages:read"]}]
    assert paths["/api/v1/api-keys"]["post"]["security"] == [{"api_key": ["admin"]}]
    assert paths["/webhooks/{channel}/{account}"]["post"]["security"] == []
    assert set(paths) == {
        "/api/v1/messages",
        "/api/v1/api-keys",
        "/webhooks/{channel}/{account}",
        "/health/live",
        "/health/ready",
    }


async def test_the_services_are_asked_now_and_then(
    session: aiohttp.ClientSession, services: Services, clock: Clock
) -> None:
    """A description serves for a while, and a new release of a service shows after that."""
    for _ in range(5):
        await answered(session)
    assert services.asked == 2
    services.parts["message"].paths["/api/v1/channels"] = {}
    services.parts["message"].paths["/api/v1/messages"]["get"]["summary"] = "Another"
    clock.now += FRESH_S
    _, body = await answered(session)
    assert services.asked == 4
    assert "Another" in body


@pytest.mark.parametrize("trouble", ["away", "too old to have a part", "at odds"])
async def test_the_last_description_serves_in_trouble(
    session: aiohttp.ClientSession, services: Services, clock: Clock, trouble: str
) -> None:
    """What was described once is shown until the services describe themselves again."""
    _, before = await answered(session)
    services.away = trouble == "away"
    services.status = 404 if trouble.startswith("too old") else 200
    if trouble == "at odds":
        services.parts["user"].schemas["Message"] = {"type": "string"}
    clock.now += FRESH_S
    assert await answered(session) == (200, before)
    asked = services.asked
    assert await answered(session) == (200, before)
    assert services.asked == asked


async def test_without_any_description_a_problem_says_so(
    session: aiohttp.ClientSession, services: Services, clock: Clock
) -> None:
    """A gateway that never reached the services says when to come again, and then has it."""
    services.away = True
    async with session.get("/openapi.json") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "The services that describe the API are away." in await answer.text()
    services.away = False
    clock.now += RETRY_S
    assert (await answered(session))[0] == 200


async def test_the_page_needs_nothing_from_elsewhere(session: aiohttp.ClientSession) -> None:
    """The page and all it loads are served here, without an API key."""
    async with session.get("/docs") as answer:
        page = await answer.text()
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "//" not in page
    for path, kind, word in (
        ("/docs/start.js", "text/javascript", "/openapi.json"),
        ("/docs/swagger-ui.css", "text/css", ".swagger-ui"),
        ("/docs/swagger-ui-bundle.js", "javascript", "SwaggerUIBundle"),
    ):
        assert path == "/docs/start.js" or path in page
        async with session.get(path) as answer:
            assert answer.status == 200
            assert kind in answer.content_type
            assert word in await answer.text()


@pytest.mark.parametrize("path", ["/internal/openapi", "/docs/", "/docs/../internal", "/openapi"])
async def test_nothing_else_is_open(session: aiohttp.ClientSession, path: str) -> None:
    """What is not the description takes a key."""
    async with session.get(path) as answer:
        assert answer.status == 401


async def answered(session: aiohttp.ClientSession) -> tuple[int, str]:
    """Return status and body of the description."""
    async with session.get("/openapi.json") as answer:
        return answer.status, await answer.text()
