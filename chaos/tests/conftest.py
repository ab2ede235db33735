"""The platform that cluster tests run on: the one that the environment names."""

from collections.abc import AsyncIterator

import pytest

from chaos.adapters.platform import Platform, connect


@pytest.fixture(scope="session")
async def platform() -> AsyncIterator[Platform]:
    """Lend the platform."""
    async with connect() as found:
        yield found


@pytest.fixture(scope="session")
async def channel(platform: Platform) -> str:
    """Return a channel that is enabled."""
    _, body, _ = await platform.api.call("GET", "/channels")
    return str(next(item["channel"] for item in body["items"] if item["enabled"]))
