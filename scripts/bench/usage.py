"""CPU and memory of the platform's processes, sampled from /proc and added up by job."""

import asyncio
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from scripts.bench.figures import BENCH, Machine, Use

PERIOD_S = 1.0
AGENTS = ("nomad", "consul")
"""Processes with these names are the agents, and Nomad's helpers: two beside each task."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_ALLOCATION = re.compile(
    rb"(?:NOMAD_ALLOC_ID=|/alloc/)([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
)
_PROC = Path("/proc")


class Key(NamedTuple):
    """A process; its start time tells it from a later one with the same number."""

    pid: int
    started: int


class Stat(NamedTuple):
    """What the kernel says of a process."""

    key: Key
    command: str
    parent: int
    cpu_s: float
    memory_bytes: int


class Unused(NamedTuple):
    """How long all cores had nothing to do, and how long the host took them away.

    The kernel measures both; how long cores were busy it estimates by who runs at each tick of its
    clock, and misses who runs only between them.
    """

    idle_s: float
    stolen_s: float


class Sampler:
    """Looks at all processes every second; each belongs to a job, or to what started it."""

    def __init__(self, instance: str, jobs: Mapping[str, str]) -> None:
        """Take the instance, whose folder its agents name in their command, and its tasks' jobs."""
        self._mark = f"/.local/{instance}/".encode()
        self._jobs = jobs
        self.named = {os.getpid(): BENCH}
        """Processes that are no tasks, by number."""
        self._known: dict[Key, str | None] = {}
        self._before: dict[Key, float] = {}
        self._last: dict[Key, tuple[str, Stat]] = {}

    @asynccontextmanager
    async def sampling(self) -> AsyncIterator[Callable[[], Machine]]:
        """Sample while the body runs; at its end the body asks for what was used until then."""
        self._before = {stat.key: stat.cpu_s for stat in _processes()}
        began, before = time.monotonic(), _unused()

        def used() -> Machine:
            elapsed_s, after = time.monotonic() - began, _unused()
            meanwhile = Unused(after.idle_s - before.idle_s, after.stolen_s - before.stolen_s)
            return self._machine(self._look(), meanwhile, elapsed_s)

        task = asyncio.create_task(self._keep_looking(), name="usage")
        try:
            yield used
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            self._look()

    def _look(self) -> dict[int, str]:
        """Note what each process used so far; return those there are."""
        stats = {stat.key.pid: stat for stat in _processes()}
        names = {pid: name for pid in stats if (name := self._name(pid, stats)) is not None}
        for pid, name in names.items():
            self._note(name, stats[pid])
        return names

    def _note(self, name: str, stat: Stat) -> None:
        """Remember what a process used; one that ends gives up its memory before it is gone."""
        if not stat.memory_bytes and stat.key in self._last:
            stat = stat._replace(memory_bytes=self._last[stat.key][1].memory_bytes)
        self._last[stat.key] = name, stat

    def _name(self, pid: int, stats: Mapping[int, Stat]) -> str | None:
        while pid in stats:
            stat = stats[pid]
            if pid in self.named:
                return self.named[pid]
            if stat.key not in self._known:
                self._known[stat.key] = self._told_by(stat)
            if (name := self._known[stat.key]) is not None:
                return name
            pid = stat.parent
        return None

    def _told_by(self, stat: Stat) -> str | None:
        folder = _PROC / str(stat.key.pid)
        with suppress(OSError):  # it ended
            if stat.command in AGENTS:
                ours = self._mark in (folder / "cmdline").read_bytes()
                return stat.command if ours else None
            # A task tells in its environment or, when it wrote over that, by where it runs.
            told = (folder / "environ").read_bytes() + b"\0" + bytes((folder / "cwd").readlink())
            if (found := _ALLOCATION.search(told)) is not None:
                return self._jobs.get(found[1].decode())
        return None

    def _machine(self, names: Mapping[int, str], unused: Unused, elapsed_s: float) -> Machine:
        shares: defaultdict[str, list[float]] = defaultdict(list)
        memory: Counter[str] = Counter()
        ended: Counter[str] = Counter()
        for key, (name, stat) in self._last.items():
            shares[name].append(100 * (stat.cpu_s - self._before.get(key, 0.0)) / elapsed_s)
            ended[name] = max(ended[name], stat.memory_bytes)
        for pid, name in names.items():
            memory[name] += _memory_bytes(pid)
        running = Counter(names.values())
        cores = os.cpu_count() or 1
        busy_s = cores * elapsed_s - unused.idle_s - unused.stolen_s
        uses = [
            Use(
                name=name,
                processes=running[name] or len(of_name),
                cpu_percent=sum(of_name),
                busiest_percent=max(of_name),
                memory_mb=(memory[name] or ended[name]) / 2**20,
            )
            for name, of_name in shares.items()
        ]
        return Machine(
            cores=cores,
            cpu_percent=max(0.0, 100 * busy_s / elapsed_s),
            stolen_percent=100 * unused.stolen_s / elapsed_s,
            uses=sorted(uses, key=lambda use: -use.cpu_percent),
            memory_mb=_memory_mb(),
        )


def _processes() -> list[Stat]:
    found = []
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # it ended while we looked
            found.append(parse_stat((folder / "stat").read_text()))
    return found


def parse_stat(text: str) -> Stat:
    """Read a line of /proc/<pid>/stat; the command in it may hold anything."""
    head, _, tail = text.rpartition(")")
    pid, _, command = head.partition(" (")
    fields = tail.split()
    return Stat(
        key=Key(int(pid), int(fields[19])),
        command=command,
        parent=int(fields[1]),
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        memory_bytes=int(fields[21]) * _PAGE_BYTES,
    )


def _memory_bytes(pid: int) -> int:
    """Return a process's memory, of pages it shares its part, so that sums are true."""
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:  # it ended, or belongs to the kernel
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _memory_mb() -> float:
    """Return how much memory the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES / 2**20


def _unused() -> Unused:
    """Return both since the machine started."""
    return parse_unused((_PROC / "stat").read_text())


def parse_unused(text: str) -> Unused:
    """Read the first line of /proc/stat; waiting for a disk is having nothing to do."""
    fields = [int(field) / _TICKS_PER_S for field in text.split("\n", 1)[0].split()[1:]]
    _user, _nice, _system, idle_s, waiting_s, _interrupts, _soft, stolen_s = fields[:8]
    return Unused(idle_s + waiting_s, stolen_s)
