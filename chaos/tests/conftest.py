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
    """Return the enabled channel that tells most of what becomes of a message."""
    _, body, _ = await platform.api.call("GET", "/channels")
    enabled = [item for item in body["items"] if item["enabled"]]
    return str(max(enabled, key=lambda item: len(item["capabilities"]["receipts"]))["channel"])
