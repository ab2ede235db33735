"""How a process takes its place on full cores."""

import asyncio
import os
import sys

import pytest

from services.runtime import cores

CHILD = """
import os
from services.runtime import cores
cores.take_place(float(os.environ["SHARE_MHZ"]))
print(os.sched_getscheduler(0) == os.SCHED_BATCH, os.getpriority(os.PRIO_PROCESS, 0))
if cores.AUTOGROUP.exists():
    print(cores.AUTOGROUP.read_text().strip())
"""
PRIVILEGED = os.geteuid() == 0


@pytest.mark.parametrize(
    ("share_mhz", "nice"), [(10, 7), (32, 2), (50, 0), (300, -8 if PRIVILEGED else 0)]
)
async def test_a_process_takes_the_share_that_its_job_gives(share_mhz: float, nice: int) -> None:
    """It interrupts nobody, and its session's group has the share as well."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD),
        env={**os.environ, "SHARE_MHZ": str(share_mhz)},
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    said = (await child.communicate())[0].decode().splitlines()
    assert said[0] == f"True {nice}"
    assert all(line.endswith(f"nice {nice}") for line in said[1:])
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_a_share_is_a_weight() -> None:
    """Of two processes on a full core, one with six times the share runs six times as long."""
    for share_mhz in (12, 25, 32, 50, 100, 200, 300):
        weight = 1.25 ** -cores.nice_of(share_mhz)
        assert weight == pytest.approx(share_mhz / cores.USUAL_SHARE_MHZ, rel=0.13)
