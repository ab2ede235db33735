"""A harness that is killed leaves nothing broken: the dead man heals, and whoever types `heal`.

Each test kills the process of a campaign on the running platform in another phase of it, while the
switch of the eviction is off and, in some phases, a router is stopped.
"""

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chaos import safety
from chaos.adapters import consul, processes
from chaos.adapters.platform import Platform
from chaos.campaign import EVICTION_KEY, OFF

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

PHASES = ("warm-up", "steady", "inject", "impact", "heal", "recover", "drain")
SIGKILLED = -9
PHASE_DEADLINE_S = 60.0
HEALED_DEADLINE_S = 40.0
CONTROL_DEADLINE_S = 100.0
SHOWN_LINES = 25
NOT_PLAIN = ("FORCE_COLOR", "TTY_COMPATIBLE")
"""With these the suite takes a pipe for a terminal, and names no phase."""
STALLED = """
extends = "pause-router-briefly"
title = "A router stalls, and so does the harness"

[steady]
hold = "1s"

[workload]
rate = "50/s"
conversations = 20

[[faults]]
kind = "pause"
job = "router"
hold = "3s"
"""
QUIET = """
extends = "baseline"
title = "Nothing is broken any more"

[workload]
conversations = 40
tail = "3s"
"""


class Harness:
    """The suite as a process of its own, and what it has said."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.lines: list[str] = []

    @property
    def said(self) -> str:
        """The last of what it said, for whoever reads why a test failed."""
        return "\n  ".join(["It said:", *self.lines[-SHOWN_LINES:]])

    async def reach(self, phase: str) -> None:
        """Return when it has named a phase."""
        begins = re.compile(rf"\d\d:\d\d:\d\d +{phase} \(at most")
        try:
            async with asyncio.timeout(PHASE_DEADLINE_S):
                while line := await self._line():
                    if begins.match(line):
                        return
        except TimeoutError:
            pytest.fail(f"{phase} was not reached within {PHASE_DEADLINE_S:.0f} s. {self.said}")
        pytest.fail(f"It ended before {phase} with {await self._process.wait()}. {self.said}")

    async def end(self, deadline_s: float) -> int:
        """Return its exit code once it and what it has started, as the dead man, have ended."""
        try:
            async with asyncio.timeout(deadline_s):
                while await self._line():
                    pass
        except TimeoutError:
            pytest.fail(f"It or its dead man still lives after {deadline_s:.0f} s. {self.said}")
        return await self._process.wait()

    async def kill(self) -> None:
        """Kill it, and nothing that it has started."""
        self._process.kill()
        code = await self._process.wait()
        assert code == SIGKILLED, f"It had ended by itself with {code}. {self.said}"

    async def _line(self) -> str:
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode(errors="replace")
        self.lines += [line.rstrip()] if line else []
        return line


@asynccontextmanager
async def harness(*words: str) -> AsyncIterator[Harness]:
    """Lend the suite with a command; kill it if it still runs afterwards."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_PLAIN}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chaos",
        *words,
        cwd=safety.ROOT,
        env=environment,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        yield Harness(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def stopped_routers(platform: Platform) -> list[str]:
    """Return the routers' processes that the kernel shows as stopped."""
    return [
        f"process {process.pid} of {victim.allocation[:8]}"
        for victim in await platform.nomad.running("router")
        for process in processes.of_task(victim.allocation, victim.task)
        if processes.state(process) == "T"
    ]


async def eviction(platform: Platform) -> str | None:
    """Return what the switch of the eviction says."""
    return await consul.read_key(platform.consul_url, EVICTION_KEY, platform.session)


async def left_broken(platform: Platform, switch: str | None) -> dict[str, object]:
    """Return what is not as it was before: nothing, when all was taken back."""
    found: dict[str, object] = {
        "stopped": await stopped_routers(platform),
        "to be taken back": safety.UndoLog(safety.undo_path()).pending(),
    }
    if (now := await eviction(platform)) != switch:
        found["the eviction's switch"] = f"{now}, and it was {switch}"
    try:
        with safety.only_one(safety.undo_path().with_suffix(".lock")):
            pass
    except safety.Busy as error:
        found["the lock"] = str(error)
    return {name: what for name, what in found.items() if what}


@pytest.mark.parametrize("phase", PHASES)
async def test_a_harness_that_is_killed_leaves_nothing_broken(
    platform: Platform, tmp_path: Path, phase: str
) -> None:
    """Whenever it dies, all is as before once `heal` was typed and the dead man is done."""
    scenario = tmp_path / "stalled.toml"
    scenario.write_text(STALLED)
    before = await eviction(platform)
    assert before != OFF, "the eviction was switched off before the test began"
    async with harness("run", str(scenario), "--repeats", "1", "--no-eviction") as runs:
        await runs.reach(phase)
        if phase == "impact":
            assert await stopped_routers(platform), f"No router was stopped. {runs.said}"
            assert await eviction(platform) == OFF, f"The eviction was on. {runs.said}"
        await runs.kill()
        async with harness("heal") as heals:
            code = await heals.end(HEALED_DEADLINE_S)
            assert code == 0, f"`heal` ended with {code}. {heals.said}"
        await runs.end(HEALED_DEADLINE_S)
        left = await left_broken(platform, before)
        assert not left, f"After the kill in {phase} there is left {left}. {runs.said}"


async def test_the_platform_is_well_afterwards(platform: Platform, tmp_path: Path) -> None:
    """A control finds nothing to heal and passes, on the platform that was left alone so often."""
    scenario = tmp_path / "quiet.toml"
    scenario.write_text(QUIET)
    async with harness("run", str(scenario), "--repeats", "1") as runs:
        code = await runs.end(CONTROL_DEADLINE_S)
        assert code == 0, f"The control ended with {code}. {runs.said}"
        assert not [line for line in runs.lines if "healed" in line], runs.said
        assert not await left_broken(platform, await eviction(platform)), runs.said
