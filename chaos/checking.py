"""The check phase: holds what was found against what was promised. Pure."""

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from chaos.checkers import must_happen
from chaos.checkers.deliveries import Judgement
from chaos.observations import Interval
from chaos.results import Repeat, Row, row, values
from chaos.scenario import Scenario
from chaos.statistics import median_interval
from chaos.units import show
from chaos.verdicts import Valid, Verdict, at_most, overall

ACKNOWLEDGED_MIN = 100
DURATIONS = ("detection", "rebalance", "failover", "unavailability")
COUNTS = ("lost", "doubled", "reordered", "status_back", "manual_steps")


class Found(Struct, frozen=True, kw_only=True):
    """What is known at the end of a repeat."""

    judgement: Judgement | None
    metrics: Mapping[str, Interval]
    counts: Mapping[str, int]
    happened: Mapping[str, int]
    problems: Sequence[str]
    """Why the repeat proves nothing, whatever was measured."""


def check(scenario: Scenario, found: Found) -> list[Verdict]:
    """Return a verdict for each promise, each condition and each problem of a repeat."""
    verdicts = [_problem(text) for text in found.problems]
    if found.judgement is None:
        return [*verdicts, _problem("no message was judged")]
    if found.judgement.acknowledged < ACKNOWLEDGED_MIN:
        verdicts.append(_problem(f"only {found.judgement.acknowledged} messages were accepted"))
    if found.judgement.unexpected:
        count = len(found.judgement.unexpected)
        reason = f"{count} messages arrived that nobody sent"
        verdicts.append(Verdict(name="unexpected", valid=Valid.FALSE, reason=reason))
    verdicts += [_duration(scenario, name, found) for name in _promised(scenario, DURATIONS)]
    verdicts += [_count(scenario, name, found) for name in _promised(scenario, COUNTS)]
    if scenario.promise.survivors is not None:
        verdicts.append(_survivors(scenario.promise.survivors, found))
    return verdicts + must_happen.check(scenario.must_happen, found.happened)


def _problem(text: str) -> Verdict:
    return Verdict(name="evidence", valid=Valid.UNKNOWN, reason=text)


def _promised(scenario: Scenario, names: Sequence[str]) -> list[str]:
    return [name for name in names if getattr(scenario.promise, name) is not None]


def _duration(scenario: Scenario, name: str, found: Found) -> Verdict:
    target = float(getattr(scenario.promise, name))
    interval = found.metrics.get(f"{name}_s")
    valid = at_most(interval, target)
    if interval is None:
        reason = f"{name} could not be measured"
    elif math.isinf(interval.hi):
        reason = f"{name} had not ended after {show(interval.lo)}, and {show(target)} was promised"
    else:
        held = "" if valid is Valid.TRUE else f"{name} took {show(interval.lo)}"
        reason = held and f"{held} to {show(interval.hi)}, and {show(target)} was promised"
    return Verdict(name=name, valid=valid, reason=reason)


def _count(scenario: Scenario, name: str, found: Found) -> Verdict:
    target, count = int(getattr(scenario.promise, name)), found.counts.get(name)
    if count is None:
        return Verdict(name=name, valid=Valid.UNKNOWN, reason=f"{name} was not counted")
    kept = count <= target
    reason = "" if kept else f"{count} {name.replace('_', ' ')}, and {target} were promised"
    return Verdict(name=name, valid=Valid.TRUE if kept else Valid.FALSE, reason=reason)


def _survivors(target: int, found: Found) -> Verdict:
    count = found.counts.get("survivors")
    if count is None:
        reason = "survivors were not counted"
        return Verdict(name="survivors", valid=Valid.UNKNOWN, reason=reason)
    kept = count >= target
    reason = "" if kept else f"{count} survived, and {target} were promised"
    return Verdict(name="survivors", valid=Valid.TRUE if kept else Valid.FALSE, reason=reason)


def promises(scenario: Scenario, repeats: Sequence[Repeat]) -> list[Row]:
    """Return the rows of all promises over the repeats."""
    found = []
    for name in _promised(scenario, (*DURATIONS, *COUNTS, "survivors")):
        target = float(getattr(scenario.promise, name))
        judged = [v.valid for r in repeats for v in r.verdicts if v.name == name]
        judged += [Valid.UNKNOWN] * (len(repeats) - len(judged))
        if name in DURATIONS:
            found.append(row(name, target, "s", values(repeats, f"{name}_s"), judged))
            continue
        counted = [float(r.counts[name]) for r in repeats if name in r.counts]
        if name == "survivors":
            counted = [min(counted)] if counted else []
        each = [Interval(count, count) for count in counted]
        found.append(row(name, target, "", each, judged))
    return found


def goals(scenario: Scenario, repeats: Sequence[Repeat]) -> list[Row]:
    """Return the rows of our own goals: they are told, and do not decide."""
    found = []
    for name in ("failover_median", "failover_worst", "rebalance_worst"):
        target = getattr(scenario.goal, name)
        if target is None:
            continue
        metric, _, kind = name.rpartition("_")
        each = values(repeats, f"{metric}_s")
        complete = len(each) == len(repeats) and bool(each)
        if kind == "median" and complete:
            lows, highs = sorted(i.lo for i in each), sorted(i.hi for i in each)
            middle = Interval(lows[(len(lows) - 1) // 2], highs[len(highs) // 2])
            sure = median_interval([i.hi for i in each])
            held = at_most(middle, target)
            if held is Valid.TRUE and sure is not None and sure.hi > target:
                held = Valid.UNKNOWN
            found.append(row(name, float(target), "s", [middle], [held]))
        else:
            judged = [at_most(interval, target) for interval in each]
            judged += [Valid.UNKNOWN] * (len(repeats) - len(each))
            found.append(row(name, float(target), "s", each, judged))
    return found


def sentence(
    title: str, rows: Sequence[Row], ours: Sequence[Row], repeats: Sequence[Repeat]
) -> str:
    """Say in one sentence how a campaign ended."""
    valid = overall(repeat.valid for repeat in repeats)
    times = f"{len(repeats)} times" if len(repeats) != 1 else "once"
    if valid is Valid.TRUE:
        worst = next((r for r in rows if r.name in ("failover", "unavailability")), None)
        felt = ""
        if worst is not None and worst.measured is not None and worst.measured.hi is not None:
            felt = f" and the worst {worst.name} was {show(worst.measured.hi)}"
        missed = ", ".join(r.name.replace("_", " ") for r in ours if r.valid is Valid.FALSE)
        goal = f" Our own goal was missed: {missed}." if missed else ""
        return f"{title}, {times}: every promise was kept{felt}.{goal}"
    reasons = [v.reason for r in repeats for v in r.verdicts if v.valid is valid]
    count = sum(repeat.valid is valid for repeat in repeats)
    what = "a promise was broken" if valid is Valid.FALSE else "nothing is proved"
    return f"{title}: {what} in {count} of {len(repeats)} ({reasons[0] if reasons else 'no run'})."
