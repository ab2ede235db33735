"""What keeps chaos on its leash: the undo log, the lock of a campaign, and the dead man's lease."""

import asyncio
import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import aiohttp
import msgspec
from msgspec import Struct

from chaos.undo import AnyUndo, World

ROOT = Path(__file__).resolve().parents[1]
LEASE_S = 20.0
"""How long the dead man waits for a sign of life: longer than any step that blocks the runner."""
HEAL_ATTEMPTS = 3
HEAL_AGAIN_S = 0.5
"""Each attempt waits for its own condition; this is between one that failed and the next."""


class Busy(Exception):  # noqa: N818 - a refusal
    """Another campaign is running."""


class Broken(Exception):  # noqa: N818 - a sentence about what is still broken
    """Something could not be taken back."""


class Record(Struct, frozen=True):
    """One line of the undo log: something to be taken back, or (undo None) that it was."""

    id: int
    world: World | None = None
    undo: AnyUndo | None = None


def folder() -> Path:
    """Return where runs and the undo log are kept, apart for each instance."""
    return ROOT / ".local" / "chaos"


def undo_path() -> Path:
    """Return the undo log of the instance in the environment."""
    return folder() / f"undo-{os.environ.get('CHAT4ALL_INSTANCE', 'dev')}.jsonl"


class UndoLog:
    """An append-only file; a record is on the disk before its fault is injected."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, world: World, undo: AnyUndo) -> int:
        """Write what is to be taken back; return its number."""
        number = max((record.id for record in self._records()), default=0) + 1
        self._append(Record(number, world, undo))
        return number

    def done(self, number: int) -> None:
        """Write that a record was taken back and that this was verified."""
        self._append(Record(number))

    def pending(self) -> list[Record]:
        """Return what is still to be taken back, the latest first."""
        records = self._records()
        done = {record.id for record in records if record.undo is None}
        return [r for r in reversed(records) if r.undo is not None and r.id not in done]

    def shorten(self) -> None:
        """Drop what was taken back, if nothing else is left; numbers are never given again."""
        records = self._records()
        if len(records) <= 1 or self.pending():
            return
        last = Record(max(record.id for record in records))
        unfinished = self.path.with_suffix(".part")
        with unfinished.open("wb") as file:
            file.write(msgspec.json.encode(last) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.path)

    def _append(self, record: Record) -> None:
        line = msgspec.json.encode(record) + b"\n"
        with self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _records(self) -> list[Record]:
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_bytes().splitlines():
            with contextlib.suppress(msgspec.DecodeError):
                # A torn line is one whose fault was never injected.
                found.append(msgspec.json.decode(line, type=Record))
        return found


async def heal(
    log: UndoLog, session: aiohttp.ClientSession, only: Collection[int] | None = None
) -> int:
    """Take back all that is pending, or only some records of it.

    Return how much that was; raise Broken when some is left.
    """
    pending = [record for record in log.pending() if only is None or record.id in only]
    problems = []
    for record in pending:
        problem = await _heal(record, session)
        if problem is None:
            log.done(record.id)
        else:
            problems.append(problem)
    if problems:
        raise Broken("; ".join(problems))
    return len(pending)


async def _heal(record: Record, session: aiohttp.ClientSession) -> str | None:
    """Carry out one record, a few times if need be; return what is wrong at the end."""
    problem = None
    for _ in range(HEAL_ATTEMPTS):
        try:
            if record.undo is not None and record.world is not None:
                await record.undo.apply(record.world, session)
        except Exception as error:  # noqa: BLE001 - the other records must be carried out too
            problem = f"{type(record.undo).__name__} failed: {error!r}"
            await asyncio.sleep(HEAL_AGAIN_S)
        else:
            return None
    return problem


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock of a campaign, which the system takes away when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise Busy(
                f"a campaign is running (process {file.read().strip()}): stop it with Ctrl-C there"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class DeadMan:
    """A process apart that heals when the runner dies or shows no sign of life."""

    def __init__(self, undo_log: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "chaos.deadman", str(undo_log), str(LEASE_S)],
            stdin=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )

    async def keep_renewing(self) -> None:
        """Renew the lease for ever; the pipe closes by itself when this process dies."""
        while True:
            self._write(b".")
            await asyncio.sleep(LEASE_S / 10)

    def release(self) -> None:
        """Let the dead man go: all is healed."""
        self._write(b"q")
        self._process.wait(timeout=LEASE_S)

    def _write(self, sign: bytes) -> None:
        if self._process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(sign)
            self._process.stdin.flush()
