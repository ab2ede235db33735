"""Live progress: one line that changes on a terminal, plain lines elsewhere."""

import os
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status

from chaos.observations import Observation
from chaos.units import show

PLAIN_EVERY_S = 10.0
REFRESHED_PER_S = 4.0
OBSERVATIONS_SHOWN = 2


class Output(Console):
    """Standard output, which may lose its reader in the middle of a campaign."""

    def on_broken_pipe(self) -> None:
        """Say no more and go on: Rich would end the process with the code of a broken promise."""
        self.quiet = True
        nobody = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nobody, sys.stdout.fileno())
        os.close(nobody)


class Progress:
    """Tells what a campaign does; it never raises into it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Output(highlight=False)
        self._status: Status | None = None
        self._phase = ""
        self._began_at = 0.0
        self._deadline_s = 0.0
        self._told_at = 0.0
        self._last: list[str] = []

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("starting", refresh_per_second=REFRESHED_PER_S)
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def line(self, text: str) -> None:
        """Tell something that stays."""
        self._console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, soft_wrap=True)

    def phase(self, name: str, deadline_s: float) -> None:
        """Tell that a phase begins."""
        self._phase, self._began_at, self._deadline_s = name, time.monotonic(), deadline_s
        if self._status is None:
            self.line(f"  {name} (at most {deadline_s:.0f} s)")

    def seen(self, found: Observation) -> None:
        """Remember the last observations."""
        which = found.group or found.job or ""
        self._last = [*self._last, f"{found.source}: {which} {found.kind}"][-OBSERVATIONS_SHOWN:]

    def pulse(self, rate: float, arrived: float, unseen: int, p99_s: float | None) -> None:
        """Tell how the load fares."""
        left = max(0.0, self._began_at + self._deadline_s - time.monotonic())
        p99 = "-" if p99_s is None else show(p99_s)
        text = (
            f"{self._phase}, {left:.0f} s left · accepted {rate:.0f}/s delivered {arrived:.0f}/s "
            f"unseen {unseen} p99 {p99} · {' · '.join(self._last)}"
        )
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() - self._told_at > PLAIN_EVERY_S:
            self._told_at = time.monotonic()
            self.line(f"  {text}")
