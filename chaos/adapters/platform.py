"""A running platform as the environment names it: its API, its providers."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from chaos.adapters.api import Api
from chaos.adapters.consul import url_of
from chaos.adapters.nomad import Nomad
from chaos.adapters.provider import Provider

CONNECTIONS_MAX = 256


@dataclass(frozen=True)
class Platform:
    """How a harness talks to one instance of the platform."""

    api: Api
    nomad: Nomad
    consul_url: str
    session: aiohttp.ClientSession

    async def provider(self, channel: str) -> Provider:
        """Return the simulator of a channel's provider."""
        url = await url_of(self.consul_url, f"provider-{channel.lower()}", self.session)
        return Provider(url, self.session)


@asynccontextmanager
async def connect() -> AsyncIterator[Platform]:
    """Connect to the platform whose addresses and API key `just env` put into the environment."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
    async with aiohttp.ClientSession(connector=connector) as session:
        api = Api(os.environ["CHAT4ALL_URL"], os.environ["CHAT4ALL_API_KEY"], session)
        nomad = Nomad(os.environ["NOMAD_ADDR"], session)
        yield Platform(api, nomad, os.environ["CONSUL_HTTP_ADDR"], session)
