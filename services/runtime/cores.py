"""How a process takes its place on cores that are full."""

import math
import os
from contextlib import suppress
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")
USUAL_SHARE_MHZ = 50
"""What a job gives in `resources.cpu` to a process that is to have as much as any other."""
_STEP = 1.25
"""By so much the weight of a process changes with each step of niceness."""


def take_place(share_mhz: float) -> None:
    """Wait for its turn when woken, and take of full cores the share that the job gives."""
    _yield_when_woken()
    _take_share(share_mhz)


def nice_of(share_mhz: float) -> int:
    """Return how nice a process with a share of full cores is to those with the usual one."""
    return round(math.log(USUAL_SHARE_MHZ / share_mhz, _STEP))


def _yield_when_woken() -> None:
    """Let this process wait for its turn when it is woken instead of interrupting whoever runs.

    On busy cores that spares many of the switches, each of which costs both sides what they had
    in their caches; on idle ones it changes nothing.
    """
    with suppress(PermissionError):  # a sandbox may forbid it, and then it is as it was
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _take_share(share_mhz: float) -> None:
    """Have that share by the process's niceness or its session's, whichever the kernel goes by.

    Where tasks are in cgroups, Nomad saw to it, and this changes nothing. More than the usual
    takes a privilege; without it, it stays the usual.
    """
    nice = nice_of(share_mhz)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        AUTOGROUP.write_text(str(nice))
