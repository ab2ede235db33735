"""Typed routes over a real socket: what is refused, with which code and field."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import Meta, Struct, field
from yarl import URL

from services.contracts.problems import CATALOGUE
from services.runtime.health import Health
from services.runtime.http.routes import Text, endpoint, routes_of
from services.runtime.http.server import BODY_SIZE_MAX_BYTES, create, internal_guard

TOKEN = "a-token-of-this-test"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
TEXT_PLAIN = {**HEADERS, "Content-Type": "text/plain"}


class Item(Struct, frozen=True, forbid_unknown_fields=True):
    """A body."""

    content: Text
    tags: list[Annotated[str, Meta(max_length=3)]] = []


class ItemPath(Struct, frozen=True):
    """A path."""

    item_id: UUID


class ItemsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """A query."""

    owner_id: UUID | None = None


class ItemHeaders(Struct, frozen=True):
    """Headers."""

    key: Annotated[str, Meta(max_length=9)] | None = field(name="Item-Key", default=None)


class Items:
    """Routes to try."""

    @endpoint("GET", "/items")
    async def find(self, query: ItemsQuery, headers: ItemHeaders) -> tuple[str | None, UUID | None]:
        """Answer what was asked."""
        return headers.key, query.owner_id

    @endpoint("POST", "/items", status=202)
    async def add(self, body: Item) -> Item:
        """Answer what was sent."""
        return body

    @endpoint("GET", "/items/{item_id}")
    async def get(self, path: ItemPath) -> ItemPath:
        """Answer what was asked for."""
        return path

    @endpoint("DELETE", "/items/{item_id}")
    async def fail(self, path: ItemPath) -> None:
        """Break."""
        raise RuntimeError(f"secret detail of {path.item_id}")


@pytest.fixture
async def base() -> AsyncIterator[str]:
    """Serve the routes on a port of their own."""
    app = create("items", Health(), lambda: internal_guard(TOKEN))
    app.router.add_routes(routes_of(Items()))
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Lend an HTTP client."""
    async with aiohttp.ClientSession() as made:
        yield made


REFUSED = [
    ("broken JSON", b"{", 400, "invalid_json", None),
    ("not UTF-8", b'{"content":"\xff"}', 400, "invalid_json", None),
    ("a lone surrogate", b'{"content":"\\ud800"}', 400, "invalid_json", None),
    ("no field", b"{}", 422, "missing_field", "content"),
    ("an unknown field", b'{"content":"a","x":1}', 422, "unknown_field", "x"),
    ("a wrong type", b'{"content":1}', 422, "invalid_field", "content"),
    ("an empty text", b'{"content":""}', 422, "invalid_field", "content"),
    ("10,001 characters", b'{"content":"' + b"a" * 10_001 + b'"}', 422, "invalid_field", "content"),
    ("NUL", b'{"content":"a\\u0000b"}', 422, "invalid_field", "content"),
    ("a wrong item", b'{"content":"a","tags":["a","long"]}', 422, "invalid_field", "tags[1]"),
    ("a large body", b'{"content":"' + b"a" * 300_000 + b'"}', 413, "body_too_large", None),
]


@pytest.mark.parametrize(
    ("body", "status", "code", "field"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
async def test_bad_bodies_are_refused(
    base: str,
    session: aiohttp.ClientSession,
    body: bytes,
    status: int,
    code: str,
    field: str | None,
) -> None:
    """Each mistake has its status, its code and its field, and a request id to ask about."""
    async with session.post(f"{base}/items", data=body, headers=HEADERS) as answer:
        problem = await answer.json()
    assert answer.status == status
    assert answer.content_type == "application/problem+json"
    assert (problem["code"], problem.get("field")) == (code, field)
    assert problem["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_that_is_not_in_its_encoding_is_refused(
    base: str, session: aiohttp.ClientSession, encoding: str
) -> None:
    """Whoever sends it made a mistake; nothing broke here."""
    headers = {**HEADERS, "Content-Encoding": encoding}
    async with session.post(f"{base}/items", data=b'{"content":"a"}', headers=headers) as answer:
        problem = await answer.json()
    assert (answer.status, problem["code"]) == (400, "invalid_json")
    assert answer.content_type == "application/problem+json"


async def test_a_body_that_grows_too_large_is_refused(
    base: str, session: aiohttp.ClientSession
) -> None:
    """The limit is on what a body is when unpacked, though all of it came at once."""
    headers = {**HEADERS, "Content-Encoding": "gzip"}
    for length, status in ((9_000, 202), (BODY_SIZE_MAX_BYTES + 1, 413), (50_000_000, 413)):
        packed = gzip.compress(b'{"content":"a"}'.ljust(length))
        async with session.post(f"{base}/items", data=packed, headers=headers) as answer:
            assert answer.status == status


async def test_a_body_that_does_not_arrive_is_refused(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who announces more than they send is answered all the same."""
    monkeypatch.setattr("services.runtime.http.server.BODY_TIMEOUT_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(base).port)
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    writer.write(f"POST /items HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 9\r\n\r\n{{".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_text_is_kept_exactly(base: str, session: aiohttp.ClientSession) -> None:
    """Every script, emoji and white space comes back as it was sent."""
    text = "Olá 👩‍👩‍👧 مرحبا \u202e你好\r\n\t" + "é" * 9_000
    async with session.post(f"{base}/items", json={"content": text}, headers=HEADERS) as answer:
        assert answer.status == 202
        assert (await answer.json())["content"] == text


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/items/not-a-uuid", HEADERS, 422, "invalid_field"),
        ("GET", "/items?owner_id=x", HEADERS, 400, "invalid_query"),
        ("GET", "/items?owner_id=null", HEADERS, 400, "invalid_query"),
        (
            "GET",
            f"/items?owner_id={UUID(int=1)}&owner_id={UUID(int=2)}",
            HEADERS,
            400,
            "invalid_query",
        ),
        ("GET", "/items?x=1", HEADERS, 400, "invalid_query"),
        ("GET", "/items", {**HEADERS, "Item-Key": "x" * 10}, 422, "invalid_field"),
        ("PUT", "/items", HEADERS, 405, "method_not_allowed"),
        ("GET", "/nothing", HEADERS, 404, "not_found"),
        ("GET", "/nothing", {}, 401, "missing_api_key"),
        ("POST", "/items", {"Authorization": "Bearer wrong"}, 401, "missing_api_key"),
        (
            "POST",
            "/items",
            {**HEADERS, "Content-Type": "text/plain"},
            415,
            "unsupported_media_type",
        ),
        ("GET", "/nothing", {**HEADERS, "X-Expect-Service": "other"}, 421, "misdirected"),
        ("DELETE", f"/items/{UUID(int=1)}", HEADERS, 500, "internal_error"),
    ],
)
async def test_bad_requests_are_refused(
    base: str,
    session: aiohttp.ClientSession,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    """Wrong path, method, token, type or service: a problem that tells nothing of the inside."""
    async with session.request(method, base + path, headers=headers) as answer:
        problem = await answer.json()
    assert (answer.status, problem["code"]) == (status, code)
    assert "secret detail" not in str(problem)


async def test_headers_and_query_are_decoded(base: str, session: aiohttp.ClientSession) -> None:
    """A declared header arrives whatever its case, and what was left out is None."""
    headers = {**HEADERS, "item-KEY": "null"}
    async with session.get(f"{base}/items?owner_id={UUID(int=1)}", headers=headers) as answer:
        assert await answer.json() == ["null", str(UUID(int=1))]
    async with session.get(f"{base}/items", headers=HEADERS) as answer:
        assert await answer.json() == [None, None]


async def test_health_and_metrics_need_no_key(base: str, session: aiohttp.ClientSession) -> None:
    """Checks and scrapers are answered."""
    for path in ("/health/live", "/health/ready", "/metrics"):
        async with session.get(base + path) as answer:
            assert answer.status == 200


async def test_readiness_names_what_is_down() -> None:
    """A dependency that does not answer is named with its reason."""
    health = Health()

    async def down() -> None:
        raise ConnectionRefusedError("nobody listens")

    health.add("kafka", down)
    assert await health.down() == {"kafka": "ConnectionRefusedError: nobody listens"}
    app = create("items", health, lambda: internal_guard(TOKEN))
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession() as session,
        session.get(server.make_url("/health/ready")) as answer,
    ):
        assert answer.status == 503
        assert "kafka" in (await answer.json())["down"]


def test_every_code_has_a_client_or_server_status() -> None:
    """The catalogue holds errors only, each with a sentence."""
    for status, title in CATALOGUE.values():
        assert 400 <= status < 600
        assert title.endswith(".")


def test_nothing_is_served_that_was_not_declared() -> None:
    """Only methods marked as endpoints become routes."""
    assert {(route.method, route.path) for route in routes_of(Items())} == {
        ("POST", "/items"),
        ("GET", "/items"),
        ("GET", "/items/{item_id}"),
        ("DELETE", "/items/{item_id}"),
    }
    assert all(isinstance(route, web.RouteDef) for route in routes_of(Items()))
