"""The provider's control API, wherever it is at the moment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from chaos.adapters.consul import NotFound
from chaos.adapters.provider import Provider

HOST = "127.0.0.1"


@asynccontextmanager
async def simulator(last_seq: int) -> AsyncIterator[str]:
    """Run what answers for its state, at an address of its own."""

    async def state(_request: web.Request) -> web.Response:
        return web.json_response({"last_seq": last_seq})

    app = web.Application()
    app.router.add_get("/_sim/state", state)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        yield f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_provider_is_found_again_where_it_was_restarted() -> None:
    """Whoever meets nobody looks where it is, and asks there the next time; else it stays."""
    passing: list[str] = []

    async def locate() -> str:
        if not passing:
            raise NotFound
        return passing[-1]

    async with aiohttp.ClientSession() as session:
        async with simulator(1) as url:
            provider = Provider(url, locate, session)
            assert await provider.state() == {"last_seq": 1}
        async with simulator(2) as elsewhere:
            for _ in range(2):
                with pytest.raises(aiohttp.ClientConnectorError):
                    await provider.state()
            assert provider.url == url
            passing.append(elsewhere)
            with pytest.raises(aiohttp.ClientConnectorError):
                await provider.state()
            assert await provider.state() == {"last_seq": 2}


async def test_an_answer_that_is_an_error_moves_nobody() -> None:
    """Whoever answers is there."""

    async def locate() -> str:
        raise AssertionError

    async with simulator(1) as url, aiohttp.ClientSession() as session:
        provider = Provider(url, locate, session)
        with pytest.raises(aiohttp.ClientResponseError):
            await provider.faults()
