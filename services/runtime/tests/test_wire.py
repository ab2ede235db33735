"""Requests in one piece: what goes over the wire, and what is known when no answer comes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.runtime.http.wire import NotConnected, Wire


@asynccontextmanager
async def asking(kind: type[Wire] = Wire) -> AsyncIterator[tuple[Wire, str, list[web.Request]]]:
    """Lend a way to a server that tells what it was asked, its origin, and its requests."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        if request.path == "/torn":
            assert request.transport is not None
            request.transport.abort()
        return web.Response(body=await request.read() or b"nothing")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        connector = aiohttp.TCPConnector()
        try:
            yield kind(connector, decompress=False, connect_timeout_s=1), origin(server), asked
        finally:
            await connector.close()


def origin(server: Any) -> str:
    """Return where a server is."""
    return f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    ("method", "body", "answered", "length"),
    [
        pytest.param("GET", None, b"nothing", None, id="nothing sent"),
        pytest.param("HEAD", None, b"", None, id="nothing answered"),
        pytest.param("POST", b"x", b"x", "1", id="sent"),
        pytest.param("POST", None, b"nothing", "0", id="empty"),
    ],
)
async def test_a_request_and_its_answer(
    method: str, body: bytes | None, answered: bytes, length: str | None
) -> None:
    """The next one goes over the same connection."""
    async with asking() as (wire, where, asked):
        for _ in range(2):
            answer = await wire.ask(method, where, "/a%20b?c=d", {"X-Y": "\udcff"}, body)
            assert (answer.status, answer.body) == (200, answered)
        assert [request.raw_path for request in asked] == ["/a%20b?c=d"] * 2
        assert asked[0].headers["X-Y"] == "\udcff"
        assert asked[0].headers.get("Content-Length") == length
        assert asked[0].transport is asked[1].transport


async def test_a_torn_answer_is_an_error() -> None:
    """The next request takes another connection."""
    async with asking() as (wire, where, _asked):
        with pytest.raises(aiohttp.ClientError):
            await wire.ask("POST", where, "/torn", {}, b"x")
        assert (await wire.ask("POST", where, "/", {}, b"x")).status == 200


class Closing(Wire):
    """Loses the connection before it writes."""

    def _write(self, protocol: Any, request: bytes, before_write: Callable[[], None]) -> None:
        protocol.transport.abort()
        super()._write(protocol, request, before_write)


async def test_what_was_not_written_is_known_not_to_be() -> None:
    """So it can be sent to another."""
    async with asking(Closing) as (wire, where, asked):
        with pytest.raises(NotConnected):
            await wire.ask("POST", where, "/", {}, b"x")
        async with aiohttp.ClientSession() as session:
            await session.get(f"{where}/next")
        assert [request.path for request in asked] == ["/next"]
