"""The memory of a job's processes, read from the process table of this machine."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from chaos.adapters import processes
from chaos.adapters.nomad import Nomad

EVERY_S = 2.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


class Memory:
    """Notes the most that each instance of a job used at a moment or over a time."""

    def __init__(self, nomad: Nomad, job: str) -> None:
        self._nomad = nomad
        self._job = job
        self.noted: dict[str, dict[str, int]] = {}
        """By moment and allocation, in bytes."""

    async def note(self, moment: str) -> None:
        """Look once; an instance without a process at that moment is left out."""
        most = self.noted.setdefault(moment, {})
        for task in await self._nomad.running(self._job):
            with suppress(processes.NotHere, OSError):  # it ended and is being started again
                of_task = await asyncio.to_thread(processes.of_task, task.allocation, task.task)
                used = sum(resident_bytes(process.pid) for process in of_task)
                most[task.allocation] = max(used, most.get(task.allocation, 0))

    @asynccontextmanager
    async def noting(self, moment: str) -> AsyncIterator[None]:
        """Look again and again while the body runs, and once more at its end."""
        task = asyncio.create_task(self._keep_noting(moment), name="memory")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self.note(moment)

    async def _keep_noting(self, moment: str) -> None:
        while True:
            await self.note(moment)
            await asyncio.sleep(EVERY_S)


def resident_bytes(pid: int) -> int:
    """Return the memory of a process that is in RAM now; raise OSError when it has ended."""
    return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE_BYTES
