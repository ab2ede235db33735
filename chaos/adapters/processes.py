"""The processes of tasks on this machine: found, signalled, and watched until they are gone."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

_PROC = Path("/proc")


class Gone(Exception):  # noqa: N818 - an answer
    """The process has ended, or its number belongs to another one."""


class NotHere(Exception):  # noqa: N818 - a refusal
    """The task does not run on this machine."""


class Process(Struct, frozen=True):
    """A process; its start time tells it from a later one with the same number."""

    pid: int
    started: int


def of_task(allocation: str, task: str) -> list[Process]:
    """Return the processes of a task, the one that Nomad started first; raise NotHere."""
    marks = {f"NOMAD_ALLOC_ID={allocation}".encode(), f"NOMAD_TASK_NAME={task}".encode()}
    every = [int(folder.name) for folder in _PROC.glob("[0-9]*")]
    parents = {pid: stat[1] for pid in every if (stat := _stat(pid)) is not None}
    marked = {pid for pid in parents if marks <= set(_environ(pid).split(b"\0"))}
    roots = [pid for pid in sorted(marked) if parents[pid] not in marked]
    if not roots:
        raise NotHere(
            f"no process of {task} in allocation {allocation[:8]} runs here: "
            "the suite measures on the machine that runs the tasks"
        )
    found = list(roots)
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return [process for pid in found if (process := identify(pid)) is not None]


def identify(pid: int) -> Process | None:
    """Return the process that has a number now."""
    stat = _stat(pid)
    return Process(pid, stat[2]) if stat is not None and stat[0] != "Z" else None


def state(process: Process) -> str | None:
    """Return the kernel's letter for what a process does; None when it has ended."""
    stat = _stat(process.pid)
    if stat is None or stat[2] != process.started or stat[0] in "ZX":
        return None
    return stat[0]


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal to exactly this process; raise Gone when it has ended."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError as error:
        raise Gone(f"process {process.pid} has ended") from error
    try:
        if state(process) is None:
            raise Gone(f"process {process.pid} has ended")
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError as error:
        raise Gone(f"process {process.pid} has ended") from error
    finally:
        os.close(handle)


class ExitWatch:
    """Tells at once when a process ends, by its pidfd."""

    def __init__(self, process: Process, ended: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self.gone = asyncio.Event()
        self._handle: int | None = os.pidfd_open(process.pid)
        self._loop.add_reader(self._handle, self._tell)

    def _tell(self) -> None:
        self.close()
        self.gone.set()
        self._ended()

    def close(self) -> None:
        """Watch no longer."""
        if self._handle is not None:
            self._loop.remove_reader(self._handle)
            os.close(self._handle)
            self._handle = None


def _stat(pid: int) -> tuple[str, int, int] | None:
    """Return state, parent and start time."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1]), int(fields[19])


def _environ(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return b""
