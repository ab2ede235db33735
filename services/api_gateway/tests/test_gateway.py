"""The gateway before a service on a real socket: what passes, as what, and what does not."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from services.api_gateway.access import Access, access, allowed
from services.api_gateway.keys import AHEAD_S, FRESH_S, STALE_S, Keys
from services.api_gateway.routes import WEBHOOKS_IN_FLIGHT_MAX, GatewayRoutes
from services.contracts.people import ApiKeyGrant
from services.contracts.problems import Problem
from services.runtime.channels import Channels
from services.runtime.discovery import Discovery, Upstream
from services.runtime.health import Health
from services.runtime.http.client import Siblings
from services.runtime.http.server import create
from services.runtime.unavailable import Unavailable

DOOR = web.AppKey("door", asyncio.Event)
WAITING = web.AppKey("waiting", list[int])
GRANTS = {
    "everything": ("admin",),
    "reader": ("messages:read",),
    "writer": ("messages:write",),
}


@pytest.mark.parametrize(
    ("method", "resource", "expected"),
    [
        ("GET", "messages", Access("message", "messages:read")),
        ("HEAD", "conversations", Access("message", "conversations:read")),
        ("POST", "messages", Access("message", "messages:write")),
        ("DELETE", "identities", Access("user", "identities:write")),
        ("GET", "api-keys", Access("user", "admin")),
        ("GET", "audit", Access("user", "admin")),
        ("GET", "internal", None),
        ("GET", "", None),
    ],
)
def test_every_resource_has_a_service_and_a_scope(
    method: str, resource: str, expected: Access | None
) -> None:
    """Reading and writing take different scopes, and keys and audit only an administrator."""
    assert access(method, resource) == expected


def test_a_scope_is_not_another() -> None:
    """Only the scope itself or admin allows; nothing else comes close."""
    assert allowed(("messages:read",), "messages:read")
    assert allowed(("admin",), "audit:read")
    assert not allowed(("messages:read",), "messages:write")
    assert not allowed((), "messages:read")


def grant_of(digest: str) -> ApiKeyGrant | None:
    """Answer as the user service does."""
    for name, scopes in GRANTS.items():
        if hashlib.sha256(name.encode()).hexdigest() == digest:
            return ApiKeyGrant(key_id=UUID(int=7), name=name, scopes=scopes)
    return None


class UserService:
    """A user service that counts questions and can be away."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False

    async def __call__(self, digest: str) -> ApiKeyGrant | None:
        """Answer one question."""
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("user")
        return grant_of(digest)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


async def test_a_key_is_asked_for_once_and_again_when_its_answer_is_old() -> None:
    """Requests with one key share a question, and its answer serves for a second."""
    service, clock = UserService(), Clock()
    keys = Keys(service, clock)
    await asyncio.gather(*(keys.holder("reader") for _ in range(20)))
    assert service.asked == 1
    clock.now += FRESH_S
    await keys.holder("reader")
    assert service.asked == 2


async def test_a_key_in_use_is_asked_for_again_before_anybody_has_to_wait() -> None:
    """From half a second on the next answer is fetched beside the requests, if it can be."""
    service, clock = UserService(), Clock()
    keys = Keys(service, clock)
    await keys.holder("reader")
    clock.now += AHEAD_S
    service.away = True
    assert (await keys.holder("reader")).scopes == ("messages:read",)
    assert service.asked == 1  # it begins behind the request
    await asyncio.sleep(0.01)
    service.away = False
    await keys.holder("reader")
    await asyncio.sleep(0.01)
    assert service.asked == 3
    clock.now += AHEAD_S + 0.4
    await keys.holder("reader")
    assert service.asked == 3  # the answer that came last is not old yet


async def test_an_unknown_key_is_refused_and_remembered() -> None:
    """A wrong key does not reach the user service with every request."""
    service = UserService()
    keys = Keys(service, Clock())
    for _ in range(3):
        with pytest.raises(Problem, match="invalid_api_key"):
            await keys.holder("nobody")
    assert service.asked == 1


async def test_a_known_key_passes_for_a_while_without_the_user_service() -> None:
    """Half a minute on the last answer, then nothing; and never for a key not seen before."""
    service, clock = UserService(), Clock()
    keys = Keys(service, clock)
    await keys.holder("reader")
    service.away = True
    clock.now += STALE_S - 1
    assert (await keys.holder("reader")).scopes == ("messages:read",)
    with pytest.raises(Unavailable):
        await keys.holder("writer")
    clock.now += 2
    with pytest.raises(Unavailable):
        await keys.holder("reader")


async def echo(request: web.Request) -> web.Response:
    """Answer what arrived."""
    body = await request.read()
    request.app[WAITING][0] += 1
    await request.app[DOOR].wait()
    return web.json_response(
        {
            "method": request.method,
            "path": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": body.decode("latin-1"),
        },
        status=202,
        headers={"Retry-After": "3", "Set-Cookie": "a=b", "X-Inside": "secret"},
    )


@pytest.fixture
async def upstream() -> AsyncIterator[BaseTestServer]:
    """Serve an application that stands for every service."""
    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", echo)
    app[DOOR], app[WAITING] = asyncio.Event(), [0]
    app[DOOR].set()
    async with TestServer(app) as server:
        yield server


@pytest.fixture
async def gateway(upstream: BaseTestServer) -> AsyncIterator[BaseTestServer]:
    """Serve the gateway before it."""
    only = Upstream("any")
    only.update({("127.0.0.1", upstream.port or 0)}, 0.0)

    async def known(_name: str) -> Upstream:
        return only

    discovery = cast("Discovery", SimpleNamespace(known=known))
    channels = cast("Channels", SimpleNamespace(states={"TESTED": object()}))
    async with aiohttp.ClientSession() as session:
        siblings = Siblings(discovery, session, "internal-token-of-test")
        routes = GatewayRoutes(siblings, Keys(UserService(), Clock()), channels)
        app = create("api-gateway", Health(), lambda: routes.guard)
        app.router.add_route("*", "/api/v1/{resource}", routes.api)
        app.router.add_route("*", "/api/v1/{resource}/{rest:.*}", routes.api)
        app.router.add_route("*", "/webhooks/{channel}/{account}", routes.webhook)
        async with TestServer(app) as server:
            yield server


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Lend an HTTP client."""
    async with aiohttp.ClientSession() as made:
        yield made


async def raw_answer(server: BaseTestServer, path: str, headers: str = "") -> bytes:
    """Return the problem that a path is answered which no client library has normalised."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n"
    writer.write(head.encode())
    answer = await reader.readuntil(b"}")
    writer.close()
    return answer


def key(name: str) -> dict[str, str]:
    """Return the header of a key."""
    return {"Authorization": f"Bearer {name}"}


async def test_a_request_arrives_as_it_was_sent(
    gateway: BaseTestServer, session: aiohttp.ClientSession
) -> None:
    """Method, path, query, body and idempotency key arrive; the API key itself does not."""
    async with session.post(
        gateway.make_url("/api/v1/messages/x%20y?limit=1&cursor=a%3D"),
        data=b"{}",
        headers={
            **key("writer"),
            "Content-Type": "application/json",
            "Idempotency-Key": "once",
            "X-Api-Key-Id": "forged",
            "X-Request-Id": "mine-1",
        },
    ) as answer:
        seen = await answer.json()
    assert (seen["method"], seen["body"]) == ("POST", "{}")
    assert seen["path"] == "/api/v1/messages/x%20y?limit=1&cursor=a%3D"
    headers = seen["headers"]
    assert headers["idempotency-key"] == "once"
    assert headers["x-api-key-id"] == str(UUID(int=7))
    assert headers["authorization"] == "Bearer internal-token-of-test"
    assert headers["traceparent"].startswith("00-")
    assert headers["x-request-id"] == "mine-1"
    assert answer.headers.getall("X-Request-Id") == ["mine-1"]
    assert (answer.status, answer.headers["Retry-After"]) == (202, "3")
    assert "Set-Cookie" not in answer.headers
    assert "X-Inside" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/api/v1/messages/1", {}, 401, "missing_api_key"),
        ("GET", "/api/v1/messages/1", key("nobody"), 401, "invalid_api_key"),
        ("GET", "/api/v1/messages/1", key("x" * 1000), 401, "invalid_api_key"),
        ("GET", "/api/v1/messages/1", {"Authorization": "Basic eA=="}, 401, "missing_api_key"),
        ("GET", "/api/v1/messages/1", key("writer"), 403, "missing_scope"),
        ("POST", "/api/v1/messages", key("reader"), 403, "missing_scope"),
        ("GET", "/api/v1/api-keys", key("reader"), 403, "missing_scope"),
        ("GET", "/api/v1/internal/people", key("everything"), 404, "not_found"),
        ("GET", "/internal/people", key("everything"), 404, "not_found"),
        ("GET", "/internal/people", {}, 401, "missing_api_key"),
        ("GET", "/", {}, 401, "missing_api_key"),
        ("GET", "/", key("everything"), 404, "not_found"),
        ("POST", "/webhooks/nothing/main", {}, 404, "not_found"),
    ],
)
async def test_what_may_not_pass_is_refused(
    gateway: BaseTestServer,
    session: aiohttp.ClientSession,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    """No key, a wrong one, one without the scope, a path that is none: each its own answer."""
    async with session.request(method, gateway.make_url(path), headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (status, code)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/messages/../../../internal/people",
        "/api/v1/messages/%2e%2e/%2e%2e/%2e%2e/internal/people",
        "/api/v1/messages/..%2f..%2f..%2finternal/people",
        "/api/v1//internal/people",
        "/api/v1/messages//../x",
    ],
)
async def test_no_path_leads_inside(gateway: BaseTestServer, path: str) -> None:
    """A path that climbs, however it is written, reaches no internal route."""
    answer = await raw_answer(gateway, path, "Authorization: Bearer everything\r\n")
    assert answer.startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    "path",
    [
        "/webhooks/tested/..%2Finternal%2Fpeople",
        "/webhooks/tested/%2e%2e",
        "/webhooks/tested/..",
        "/webhooks/tested/main%2F..%2Fother",
        "/webhooks/tested/main%3Fquery=1",
        "/webhooks/tested/main%23part",
        "/webhooks/tested/main%0a",
        "/webhooks/%2e%2e/main",
    ],
)
async def test_no_webhook_leads_inside(gateway: BaseTestServer, path: str) -> None:
    """Without an API key nothing of a connector is reached but an account's webhook."""
    assert (await raw_answer(gateway, path)).startswith(b"HTTP/1.1 404")


async def test_a_large_body_is_refused(
    gateway: BaseTestServer, session: aiohttp.ClientSession
) -> None:
    """A body over the limit is refused before it reaches a service."""
    url = gateway.make_url("/api/v1/messages")
    async with session.post(url, data=b"x" * 300_000, headers=key("writer")) as answer:
        assert (answer.status, (await answer.json())["code"]) == (413, "body_too_large")


async def test_a_webhook_arrives_byte_for_byte(
    gateway: BaseTestServer, session: aiohttp.ClientSession
) -> None:
    """Three megabytes, the signature and the query arrive as they were, without any API key."""
    body = bytes(range(256)) * 12_000
    async with session.post(
        gateway.make_url("/webhooks/tested/main?hub.mode=a%20b"),
        data=body,
        headers={
            "X-Hub-Signature-256": "sha256=abc",
            "Content-Type": "application/json",
            "X-Api-Key-Id": "forged",
            "X-Expect-Service": "api-gateway",
        },
    ) as answer:
        seen = await answer.json()
    assert seen["body"].encode("latin-1") == body
    assert seen["path"] == "/webhooks/main?hub.mode=a%20b"
    assert seen["headers"]["x-hub-signature-256"] == "sha256=abc"
    assert seen["headers"]["x-expect-service"] == "connector-tested"
    assert "x-api-key-id" not in seen["headers"]


async def test_a_storm_of_webhooks_is_bounded(
    gateway: BaseTestServer, upstream: BaseTestServer, session: aiohttp.ClientSession
) -> None:
    """While one channel's webhooks fill its share, one more is told to come again."""
    app = cast("TestServer", upstream).app
    door = app[DOOR]
    door.clear()
    url = gateway.make_url("/webhooks/tested/main")
    storm = [asyncio.create_task(_status(session, url)) for _ in range(WEBHOOKS_IN_FLIGHT_MAX)]
    async with asyncio.timeout(10):
        while app[WAITING][0] < WEBHOOKS_IN_FLIGHT_MAX:
            await asyncio.sleep(0.01)
    for channel in ("tested", "TESTED", "Tested"):
        assert await _status(session, gateway.make_url(f"/webhooks/{channel}/main")) == 503
    door.set()
    assert set(await asyncio.gather(*storm)) == {202}


async def test_a_webhook_that_does_not_arrive_gives_its_place_back(
    gateway: BaseTestServer, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who announces a body and never sends it cannot keep a channel's webhooks out."""
    monkeypatch.setattr("services.runtime.http.server.BODY_TIMEOUT_S", 0.2)
    path = "/webhooks/tested/main"
    storm = [
        asyncio.create_task(raw_answer(gateway, path, "Content-Length: 9\r\n"))
        for _ in range(WEBHOOKS_IN_FLIGHT_MAX)
    ]
    for answer in await asyncio.gather(*storm):
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"body_too_slow" in answer
    assert await _status(session, gateway.make_url(path)) == 202


async def _status(session: aiohttp.ClientSession, url: object) -> int:
    async with session.post(str(url), data=b"{}") as answer:
        return answer.status
