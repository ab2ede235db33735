"""How a process takes its place on full cores."""

import os
import subprocess
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


def test_who_works_through_queues_gives_way() -> None:
    """It interrupts nobody and has a smaller share, its session's group as well."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    said = subprocess.run(
        [sys.executable, "-c", CHILD],
        capture_output=True,
        check=True,
        start_new_session=True,
        text=True,
    ).stdout.splitlines()
    assert said[0] == f"True {app.GIVING_WAY_NICE}"
    assert all(line.endswith(f"nice {app.GIVING_WAY_NICE}") for line in said[1:])
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
