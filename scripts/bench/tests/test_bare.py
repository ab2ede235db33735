"""A bare part is measured alone and at full speed."""

import asyncio

from scripts.bench import bare


async def test_a_part_is_measured() -> None:
    """Operations are counted by batch; the first ones, which connect, are not timed."""
    done: list[str] = []

    async def one() -> None:
        await asyncio.sleep(0.05 if "one" not in done else 0.001)
        done.append("one")

    async def batch() -> None:
        await asyncio.sleep(0.001)
        done.append("batch")

    part = await bare.measure(bare.Work(one, batch), alone_s=0.1, full_s=0.1)
    assert done[:2] == ["batch", "one"]
    batches = done.count("batch") - 1
    assert 0 < part.per_s <= batches * bare.BATCH / 0.1
    assert 1.0 <= part.alone.p50_ms < 50


async def test_the_bare_server_answers() -> None:
    """The server of the HTTP part runs in its own process and ends with its user."""
    async with bare.post() as work:
        part = await bare.measure(work, alone_s=0.05, full_s=0.05)
    assert part.per_s > 0
    assert part.alone.p50_ms > 0
