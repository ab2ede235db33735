"""A circuit breaker for each account: while a provider fails, no attempt is spent on it."""

import asyncio
from collections.abc import Callable
from typing import Any

FAILURES_TO_OPEN = 3
OPEN_FIRST_S, OPEN_MAX_S = 1.0, 30.0


class Breaker:
    """Opens after failures in a row, then lets one attempt through at a time to see.

    An error that only one recipient ever meets may be that delivery's own: it opens the breaker
    only together with another's. Who cannot reach the provider at all speaks for everybody.
    An attempt is the task that makes it: those admitted before the breaker opened do not count
    as the one that looks.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._recipients: set[object] = set()
        self._reopens_at: float | None = None
        self._open_s = OPEN_FIRST_S
        self._probe: asyncio.Task[Any] | None = None
        self._changed = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Tell whether attempts are held back."""
        return self._reopens_at is not None

    async def admit(self) -> None:
        """Return when this task may make an attempt; `left` is to be called after it."""
        while self._reopens_at is not None:
            self._changed.clear()
            if self._probe is None and self._clock() >= self._reopens_at:
                self._probe = asyncio.current_task()
                return
            wait_s = None if self._probe else self._reopens_at - self._clock()
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def succeeded(self) -> None:
        """The provider answered as it should: go on."""
        self._failures = 0
        self._recipients.clear()
        self._reopens_at = None
        self._open_s = OPEN_FIRST_S
        self._changed.set()

    def failed(self, recipient: object, *, reached: bool) -> None:
        """The provider failed for a recipient; `reached` says that it was there at least."""
        if self._reopens_at is None:
            self._failures += 1
            self._recipients.add(recipient)
            if self._failures >= FAILURES_TO_OPEN and (not reached or len(self._recipients) > 1):
                self.trip()
        elif self._probe is asyncio.current_task():
            self._open_s = min(OPEN_MAX_S, self._open_s * 2)
            self._reopens_at = self._clock() + self._open_s

    def trip(self) -> None:
        """Open: the provider is known not to be well."""
        if self._reopens_at is None:
            self._reopens_at = self._clock() + self._open_s

    def left(self) -> None:
        """This task's attempt is over, whatever came of it; if it was to look, another may."""
        if self._probe is asyncio.current_task():
            self._probe = None
            self._changed.set()
