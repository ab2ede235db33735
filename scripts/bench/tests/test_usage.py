"""What processes use is seen, and goes to the right name."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

from chaos.waiting import until
from scripts.bench.figures import BENCH
from scripts.bench.trial import observe
from scripts.bench.usage import Key, Sampler, Unused, parse_stat, parse_unused

STAT = (
    "4242 (a (b) c) S 17 4242 4242 0 -1 4194304 1 0 0 0 250 150 9 9 20 0 5 0 777 1000000 25 "
    "18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0"
)
BURN = (
    "import time; end = time.process_time() + 0.1\nwhile time.process_time() < end: pass\nprint()"
)
WAIT = "\nimport sys; sys.stdin.read()"


async def burnt(allocation: str = "") -> asyncio.subprocess.Process:
    """Return a process that has used the processor for a while and waits for its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BURN + WAIT),
        env={**os.environ, "NOMAD_ALLOC_ID": allocation},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    return process


def waiting() -> subprocess.Popen[bytes]:
    """Return a process that waits for its end, and is there until it is asked how it ended."""
    return subprocess.Popen((sys.executable, "-c", WAIT), stdin=subprocess.PIPE)


async def let_end(process: asyncio.subprocess.Process) -> None:
    """Close the input that a process waits for, and wait until it is gone."""
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


def test_a_line_of_the_kernel_is_read() -> None:
    """A command may hold spaces and brackets; children's time is not the process's own."""
    found = parse_stat(STAT)
    assert (found.key, found.command, found.parent) == (Key(4242, 777), "a (b) c", 17)
    assert found.cpu_s == 400 / os.sysconf("SC_CLK_TCK")
    assert found.memory_bytes == 25 * os.sysconf("SC_PAGE_SIZE")


def test_what_cores_were_not_used_for_is_read() -> None:
    """The first line is of all cores; waiting for a disk is idle, what the host took is not."""
    hz = os.sysconf("SC_CLK_TCK")
    text = f"cpu  1 2 3 {40 * hz} {2 * hz} 5 6 {7 * hz} 8 9\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
    assert parse_unused(text) == Unused(idle_s=42.0, stolen_s=7.0)


async def test_a_task_s_use_goes_to_its_job() -> None:
    """The process of an allocation counts for its job, another's for nobody, ours for the bench."""
    ours, another = str(uuid4()), str(uuid4())
    sampler = Sampler("nowhere", {ours: "router"})
    async with sampler.sampling() as used:
        processes = [await burnt(allocation) for allocation in (ours, another)]
        machine = used()
        for process in processes:
            await let_end(process)
    uses = {use.name: use for use in machine.uses}
    assert uses["router"].processes == 1
    assert uses["router"].cpu_percent > 1
    assert uses["router"].memory_mb > 1
    assert uses[BENCH].processes >= 2
    assert machine.cpu_percent > uses["router"].cpu_percent
    assert [use.name for use in machine.platform] == ["router"]


async def test_a_process_that_ended_is_still_counted() -> None:
    """What was used before the end counts, however early that was."""
    sampler = Sampler("nowhere", {})
    async with sampler.sampling() as used:
        process = await burnt()
        sampler.named[process.pid] = "k6"
        used()
        await let_end(process)
        machine = used()
    (found,) = (use for use in machine.uses if use.name == "k6")
    assert found.processes == 1
    assert found.cpu_percent > 1
    assert found.memory_mb > 1


async def test_a_process_on_its_way_out_is_shown_with_the_memory_it_had() -> None:
    """It has none any more before whoever started it has asked how it ended."""
    sampler = Sampler("nowhere", {})
    process = waiting()
    stat = Path(f"/proc/{process.pid}/stat")

    async def ended() -> bool:
        return ") Z " in stat.read_text()

    async with sampler.sampling() as used:
        sampler.named[process.pid] = "k6"
        used()
        assert process.stdin is not None
        process.stdin.close()
        await until("the end of the process", ended, 10.0)
        machine = used()
    process.wait()
    (found,) = (use for use in machine.uses if use.name == "k6")
    assert found.memory_mb > 0


async def test_what_comes_before_a_load_does_not_count() -> None:
    """A machine is looked at from the first answer on, not while the generator starts and rests."""
    sampler, answered, over = Sampler("nowhere", {}), asyncio.Event(), asyncio.Event()
    looked, seen = asyncio.Event(), asyncio.Event()

    def has_begun() -> bool:
        (seen if answered.is_set() else looked).set()
        return answered.is_set()

    observing = asyncio.create_task(observe(asyncio.create_task(over.wait()), has_begun, sampler))
    await looked.wait()
    early = await burnt()
    sampler.named[early.pid] = "early"
    answered.set()
    await seen.wait()
    late = await burnt()
    sampler.named[late.pid] = "late"
    over.set()
    _, machine = await observing
    for process in (early, late):
        await let_end(process)
    assert machine.of("early") < machine.of("late") / 2
