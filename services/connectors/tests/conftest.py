"""A channel of its own on the instance's PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.connectors.tests.bench import Bench
from services.runtime.postgres import Pool, migrate, open_pool


@pytest.fixture
async def pool(postgres_address: str, postgres_password: str) -> AsyncIterator[Pool]:
    """Lend the database with the ledger's schema."""
    pool = await open_pool(postgres_address, postgres_password)
    await migrate(pool, "ledger", Path(__file__).parents[1] / "migrations")
    yield pool
    await pool.close()


@pytest.fixture
async def bench(pool: Pool) -> Bench:
    """A channel that no other test uses."""
    return Bench(pool)
