"""HTTP to a provider: what is known of a request that has no answer."""

import asyncio
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
