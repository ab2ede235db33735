"""The search for the highest rate that still holds."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from scripts.bench import verdict
from scripts.bench.figures import Rung, Trial
from scripts.tools.command import say

STEP = 1.25
PRECISION = 1.05
RATE_MIN = 10
RUNGS_MAX = 20


class Tried(NamedTuple):
    """A rate, and whether everything held there."""

    rate_per_s: int
    held: bool


def next_rate(tried: Sequence[Tried], first: int) -> int | None:
    """Return the rate to try next; None when the ceiling is known well enough.

    Up by a quarter while it holds, down while it never did, then the middle of what is left.
    """
    if not tried:
        return first
    lo = highest_held(tried)
    hi = min((one.rate_per_s for one in tried if not one.held), default=None)
    if len(tried) >= RUNGS_MAX:
        return None
    if hi is None:
        return round((lo or first) * STEP)
    if lo is None:
        return round(hi / STEP) if hi / STEP >= RATE_MIN else None
    return (lo + hi) // 2 if hi > lo * PRECISION and hi - lo > 1 else None


def highest_held(tried: Sequence[Tried]) -> int | None:
    """Return the highest rate that held below every one that did not."""
    broke = min((one.rate_per_s for one in tried if not one.held), default=None)
    held = [t.rate_per_s for t in tried if t.held and (broke is None or t.rate_per_s < broke)]
    return max(held, default=None)


def tried(rungs: Sequence[Rung]) -> list[Tried]:
    """Return which rates held."""
    return [Tried(round(rung.trial.load.offered_per_s), not rung.broken) for rung in rungs]


async def climb(
    load: Callable[[int, int], Awaitable[Trial]], first: Trial, seconds: int
) -> list[Rung]:
    """Search from a trial on, each rate for so many seconds; return all that were tried."""
    rungs = [rung_of(first)]
    start = round(first.load.offered_per_s)
    while (rate := next_rate(tried(rungs), start)) is not None:
        say(f"looking for the ceiling: {rate}/s for {seconds} s")
        rungs.append(rung_of(await load(rate, seconds)))
        if rungs[-1].trial.delivery.emptied_after_s is None:
            say("its backlog is still there: whatever came next would start behind it")
            break
    return rungs


def rung_of(trial: Trial) -> Rung:
    """Return a rate with what did not hold there.

    Where the load generator is the limit, that of the platform cannot be seen: it did not hold.
    """
    reason = verdict.refusal(trial.load, trial.machine)
    if reason is not None:
        limit = f"the load generator ({reason}); of the platform: {verdict.stopped_by(trial)}"
        return Rung(trial=trial, broken=["k6 was the limit"], stopped_by=limit)
    return Rung(trial=trial, broken=verdict.broken_at(trial), stopped_by=verdict.stopped_by(trial))
