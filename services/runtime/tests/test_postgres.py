"""What a query says whose connection is lost under it."""

import asyncio

import pytest

from services.runtime.postgres import NAME, Pool, open_pool
from services.runtime.unavailable import dependency_of

pytestmark = pytest.mark.connected
ROUNDS, QUERIES = 20, 6


async def ask(pool: Pool) -> BaseException:
    """Ask again and again until that fails."""
    while True:
        try:
            await pool.fetch("select 1 as of_the_victim")
        except Exception as error:  # noqa: BLE001 - what it is, is the question
            return error


async def test_a_lost_connection_is_a_database_that_is_away(
    postgres_address: str, postgres_password: str
) -> None:
    """However the driver puts it: the work is to be done again, nobody is to blame for it."""
    victim = await open_pool(postgres_address, postgres_password)
    killer = await open_pool(postgres_address, postgres_password)
    for _ in range(ROUNDS):
        asking = [asyncio.create_task(ask(victim)) for _ in range(QUERIES)]
        while not all(task.done() for task in asking):
            await killer.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where query like '%of_the_victim' and pid <> pg_backend_pid()"
            )
        for task in asking:
            assert dependency_of(task.result()) == NAME, repr(task.result())
    victim.terminate()
    await killer.close()
