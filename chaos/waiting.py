"""Waiting for a condition, never for a time."""

import asyncio
from collections.abc import Awaitable, Callable

POLL_S = 0.05
SLOW_POLL_S = 0.25
"""For what takes seconds, is not measured, and costs the machine something to ask for."""


class Late(Exception):  # noqa: N818 - a sentence about what did not happen
    """A condition did not hold by its deadline."""


async def until(
    what: str,
    look: Callable[[], Awaitable[object]],
    deadline_s: float,
    *,
    hold_s: float = 0.0,
    poll_s: float = POLL_S,
) -> None:
    """Return when a look finds something, and goes on to for a time; raise Late otherwise."""
    clock = asyncio.get_running_loop().time
    started = clock()
    since: float | None = None
    while True:
        found = await look()
        now = clock()
        since = (now if since is None else since) if found else None
        if since is not None and now - since >= hold_s:
            return
        if now - started > deadline_s:
            raise Late(f"{what} did not happen within {deadline_s:.0f} s")
        await asyncio.sleep(poll_s)
