"""A running platform as the environment names it: its API, its providers."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from chaos.adapters.api import Api
from chaos.adapters.consul import NotFound, url_of
from chaos.adapters.nomad import Nomad
from chaos.adapters.provider import Provider
from chaos.adapters.toxiproxy import NoProxy, Toxiproxy

CONNECTIONS_MAX = 256


class NoPlatform(Exception):  # noqa: N818 - a sentence for the person at the keyboard
    """The environment names no platform that answers."""


@dataclass(frozen=True)
class Platform:
    """How a harness talks to one instance of the platform."""

    api: Api
    nomad: Nomad
    consul_url: str
    session: aiohttp.ClientSession

    async def provider(self, channel: str) -> Provider:
        """Return the simulator of a channel's provider."""
        return await Provider.find(self.consul_url, f"provider-{channel.lower()}", self.session)

    async def toxiproxy(self) -> Toxiproxy:
        """Return the proxy of the links; raise NoProxy when the instance has none."""
        try:
            url = await url_of(self.consul_url, "toxiproxy", self.session)
        except NotFound as error:
            raise NoProxy(
                "links do not run through Toxiproxy: `just up --links proxied`"
            ) from error
        return Toxiproxy(url, self.session)

    async def channels(self) -> list[str]:
        """Return the channels that take messages."""
        status, body, _ = await self.api.call("GET", "/channels")
        if status != 200:  # noqa: PLR2004
            raise NoPlatform(f"GET /channels was answered {status}: {body}")
        return [str(item["channel"]) for item in body["items"] if item["enabled"]]


@asynccontextmanager
async def connect() -> AsyncIterator[Platform]:
    """Connect to the platform whose addresses and API key `just env` put into the environment."""
    names = ("CHAT4ALL_URL", "CHAT4ALL_API_KEY", "NOMAD_ADDR", "CONSUL_HTTP_ADDR")
    if missing := [name for name in names if not os.environ.get(name)]:
        raise NoPlatform(f'{missing[0]} is not set: eval "$(./scripts/just env)"')
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
    # A load that is kept waiting must not take the connections of those who watch and heal.
    async with (
        aiohttp.ClientSession(connector=connector) as load,
        aiohttp.ClientSession() as session,
    ):
        api = Api(os.environ["CHAT4ALL_URL"], os.environ["CHAT4ALL_API_KEY"], load)
        nomad = Nomad(os.environ["NOMAD_ADDR"], session)
        yield Platform(api, nomad, os.environ["CONSUL_HTTP_ADDR"], session)
