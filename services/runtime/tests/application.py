"""An application around what a test runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from services.runtime.app import App
from services.runtime.config import Config
from services.runtime.consul import Consul


@asynccontextmanager
async def application(kafka_address: str) -> AsyncIterator[App[Config]]:
    """Run an application without lifelines."""
    config = Config(
        service_name="worker",
        instance_id="survivor",
        http_host="127.0.0.1",
        http_port=1,
        consul_http_addr="127.0.0.1:1",
        internal_token="internal-token-of-tests",
        kafka_address=kafka_address,
    )
    async with aiohttp.ClientSession() as session:
        app = App(config, session, Consul(config.consul_http_addr, session))
        try:
            yield app
        finally:
            app.stopping.set()
            await app.close()
