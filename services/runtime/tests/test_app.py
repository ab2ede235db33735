"""How a process takes its place on full cores."""

import asyncio
import os
import sys

from services.runtime import app

CHILD = """
import os
from services.runtime import app
app._yield_when_woken()
app._give_way()
print(os.sched_getscheduler(0) == os.SCHED_BATCH, os.getpriority(os.PRIO_PROCESS, 0))
if app.AUTOGROUP.exists():
    print(app.AUTOGROUP.read_text().strip())
"""


async def test_who_works_through_queues_gives_way() -> None:
    """It interrupts nobody and has a smaller share, its session's group as well."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    said = (await child.communicate())[0].decode().splitlines()
    assert said[0] == f"True {app.GIVING_WAY_NICE}"
    assert all(line.endswith(f"nice {app.GIVING_WAY_NICE}") for line in said[1:])
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
