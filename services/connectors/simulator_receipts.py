"""The witness: what a simulated provider was asked and answered, in an append-only file."""

import asyncio
import os
from array import array
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from services.runtime.telemetry.log import log

SYNC_INTERVAL_S = 0.5
"""A line is with the operating system before its answer goes out, which outlives any process; the
disk, which all of the platform shares, is asked for no more than what outlives the machine."""
SPAN_LINES = 1024
"""The file's offset is remembered for every so many lines."""
_log = log(__name__)


class Receipt(Struct, kw_only=True):
    """One message request: what came, whether it was kept, and what was answered.

    `answered_at` is when the answer goes out; it and `answer` are None when none ever does.
    `to` and `text` are empty when a refused request did not tell. A channel adds fields of its own.
    """

    seq: int = 0
    received_at: float
    answered_at: float | None = None
    account: str | None = None
    to: str = ""
    type: str | None = None
    text: str = ""
    kept: bool = False
    provider_id: str | None = None
    answer: int | None = None
    error_code: int | None = None


class Page(NamedTuple):
    """Receipts in the order they were written, and the `after` of the next page."""

    items: list[Raw]
    next_after: int


class Receipts:
    """One JSON line for each receipt; its `seq` is its line number, also after a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encode = msgspec.json.Encoder().encode
        self._marks = array("Q")
        self.seq = 0
        self._size = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._recall()
        self._unsynced = asyncio.Event()

    def append(self, receipt: Receipt) -> None:
        """Number a receipt and hand its line to the operating system."""
        receipt.seq = self.seq + 1
        self._write(self._encode(receipt) + b"\n")
        self._unsynced.set()

    def page(self, after: int, limit: int, to: str | None) -> Page:
        """Read up to `limit` receipts behind a seq, perhaps only those of one recipient."""
        last = self.seq
        if after >= last:
            return Page([], after)
        wanted = b'"to":' + self._encode(to) if to is not None else b""
        items: list[Raw] = []
        with self._path.open("rb") as file:
            file.seek(self._marks[after // SPAN_LINES])
            for seq, line in enumerate(islice(file, after % SPAN_LINES, last), after + 1):
                if wanted in line and line.endswith(b"}\n"):
                    items.append(Raw(line[:-1]))
                if len(items) == limit or seq == last:
                    return Page(items, seq)
        return Page(items, last)

    async def keep_synced(self) -> None:
        """Carry what was written to the disk, many lines at a time, for ever."""
        while True:
            await self._unsynced.wait()
            self._unsynced.clear()
            await asyncio.to_thread(os.fsync, self._file.fileno())
            await asyncio.sleep(SYNC_INTERVAL_S)

    async def close(self) -> None:
        """Carry the last lines to the disk."""
        await asyncio.to_thread(os.fsync, self._file.fileno())
        self._file.close()

    def _recall(self) -> None:
        """Count the lines of earlier runs and end a line that a crash left torn."""
        torn = False
        with self._path.open("rb") as file:
            for line in file:
                self._count(len(line))
                torn = not line.endswith(b"\n")
        if torn:
            _log.warning("torn_receipt", seq=self.seq)
            self._size += os.write(self._file.fileno(), b"\n")

    def _write(self, line: bytes) -> None:
        written = os.write(self._file.fileno(), line)
        if written != len(line):
            os.ftruncate(self._file.fileno(), self._size)
            raise OSError(f"the disk of {self._path} is full: free some space there")
        self._count(written)

    def _count(self, size_bytes: int) -> None:
        if self.seq % SPAN_LINES == 0:
            self._marks.append(self._size)
        self.seq += 1
        self._size += size_bytes
