"""HTTP to a provider: what is known of a request that has no answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.connectors import http
from services.connectors.base import NotWritten, Unanswered
from services.connectors.http import Lease, ProviderHttp


async def answer(_request: web.Request) -> web.Response:
    """Be there."""
    return web.Response(text="here")


async def cut(request: web.Request) -> web.Response:
    """Take a request and answer nothing."""
    await request.read()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_each_request_is_known_by_itself() -> None:
    """One that could not be written is that, also behind one that was answered."""
    app = web.Application()
    app.router.add_post("/here", answer)
    app.router.add_post("/cut", cut)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        provider = ProviderHttp(url, cast("Any", None), timeout_s=5)
        http.current.set(Lease(float("inf")))
        assert (await provider.call("POST", "/here", headers={}, body=b"x")).body == b"here"
        with pytest.raises(Unanswered):
            await provider.call("POST", "/cut", headers={}, body=b"x")
    with pytest.raises(NotWritten):
        await provider.call("POST", "/here", headers={}, body=b"x")
    await provider.close()


async def test_no_byte_is_written_after_the_lease() -> None:
    """The provider never sees a request whose claim is too old."""
    app, seen = web.Application(), []

    async def see(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response()

    app.router.add_post("/{any}", see)
    async with TestServer(app) as server:
        provider = ProviderHttp(str(server.make_url("")), cast("Any", None), timeout_s=5)
        now = asyncio.get_running_loop().time()
        http.current.set(Lease(now + 60))
        await provider.call("POST", "/early", headers={}, body=b"x")
        http.current.set(Lease(now))
        with pytest.raises(NotWritten):
            await provider.call("POST", "/late", headers={}, body=b"x")
        assert seen == ["/early"]
        await provider.close()


ANSWERS = {
    "of a length": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere",
    "in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhere\r\n0\r\n\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\n\r\nhere",
    "after a provisional one": b"HTTP/1.1 103 Early Hints\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere",
}
TORN = {
    "in the head": b"HTTP/1.1 200 OK\r\nContent-",
    "in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhere",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhere",
    "of another protocol": b"SSH-2.0-x\r\n\r\n",
}


@asynccontextmanager
async def saying(answer: bytes, heard: list[bytes]) -> AsyncIterator[ProviderHttp]:
    """Lend a provider that answers each request with these bytes and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            heard.append(await reader.readuntil(b"\r\n\r\nx"))
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        provider = ProviderHttp(f"http://127.0.0.1:{port}/base/", cast("Any", None), timeout_s=5)
        yield provider
        await provider.close()


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_every_form_of_an_answer_is_read(answer: bytes) -> None:
    """However the provider says where its answer ends."""
    heard: list[bytes] = []
    async with saying(answer, heard) as provider:
        found = await provider.call("POST", "/a b?c=d,e", headers={"X-Y": "z"}, body=b"x")
    assert (found.status, found.body) == (200, b"here")
    head = heard[0].decode().split("\r\n")
    assert head[0] == "POST /base/a%20b?c=d,e HTTP/1.1"
    assert {"X-Y: z", "Content-Length: 1"} < set(head)


@pytest.mark.parametrize("answer", TORN.values(), ids=TORN)
async def test_an_answer_that_is_torn_is_none(answer: bytes) -> None:
    """What was written may have had its effect."""
    async with saying(answer, []) as provider:
        with pytest.raises(Unanswered):
            await provider.call("POST", "/", headers={}, body=b"x")


async def test_an_answer_that_does_not_come_is_none() -> None:
    """The time of a request ends, and with it the connection."""
    async with saying(b"", []) as provider:
        provider._timeout_s = 0.01
        with pytest.raises(Unanswered):
            await provider.call("POST", "/", headers={}, body=b"")


async def test_no_header_adds_another() -> None:
    """A line break in a value would."""
    heard: list[bytes] = []
    async with saying(b"", heard) as provider:
        with pytest.raises(ValueError, match="line break"):
            await provider.call("POST", "/", headers={"X-Y": "z\r\nX-Z: 1"}, body=b"x")
    assert not heard
