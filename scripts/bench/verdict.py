"""What the figures mean: whether they count at all, which targets they meet, what the limit was."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scripts.bench.figures import (
    GENERATOR,
    HTTP,
    KAFKA,
    MONGODB,
    POSTGRES,
    Latency,
    Load,
    Machine,
    Part,
    Report,
    Trial,
)

LATE_MAX_MS = 25.0
GENERATOR_SHARE_MAX = 0.5
MACHINE_FULL_SHARE = 0.9
PROCESS_FULL_PERCENT = 85.0
OTHERS_PERCENT_MAX = STOLEN_PERCENT_MAX = 20.0
DRIFT_MAX = 0.25
CEILING_IGNORES = ("acceptance p50", "acceptance p99")
"""The ceiling is where p95 gives way; the other percentiles are only shown."""

ACCEPTANCE_STEPS = (HTTP, MONGODB, KAFKA)
"""What an acceptance cannot leave out: a request, a durable document, an acknowledged record."""
DELIVERY_STEPS = (*ACCEPTANCE_STEPS, KAFKA, POSTGRES, HTTP)
"""A delivery goes on through the router's record, a row of the ledger, the provider's request."""


class Refused(Exception):  # noqa: N818 - a refusal
    """The figures of a run do not count."""


class Line(NamedTuple):
    """A figure beside its target; `met` is None where there is none."""

    name: str
    value: str
    target: str
    met: bool | None
    ratio: str = ""


def refusal(load: Load, machine: Machine) -> str | None:
    """Say why the load generator was the limit; None when it was not.

    All its users exist from the start, so a request is dropped only when all of them are busy.
    Either answers took so long that all were waiting, each at least users / rate, which is the
    platform's doing and counts against it; or no answer took that long: then k6 did not get round
    to it. Without drops the due time of every request is known, and how late it began. And a
    generator that needs more than half of the machine measures itself.
    """
    if load.dropped and load.acceptance.max_ms < load.users_wait_ms:
        return (
            f"k6 dropped {load.dropped} requests although no answer took as long as the "
            f"{load.users_wait_ms:.0f} ms after which all its users would have been waiting"
        )
    if not load.dropped and load.late_p99_ms > LATE_MAX_MS:
        return (
            f"k6 began 1 % of the requests more than {load.late_p99_ms:.0f} ms late "
            f"(up to {LATE_MAX_MS:.0f} ms are let pass): it had too little CPU"
        )
    share = machine.of(GENERATOR) / 100 / machine.cores
    if share > GENERATOR_SHARE_MAX:
        return f"k6 itself took {share:.0%} of the machine, more than all that it measured"
    return None


def verdict(trial: Trial) -> list[Line]:
    """Hold a trial against the targets."""
    load, delivery = trial.load, trial.delivery
    achieved = load.achieved_per_s / load.offered_per_s
    errors = _errors(load)
    named = ", ".join(f"{count} x {name}" for name, count in sorted(load.errors.items()))
    dropped = f"{load.dropped} never begun" if load.dropped else ""
    details = ", ".join(filter(None, (named, dropped)))
    emptied = delivery.emptied_after_s
    p95_ms = delivery.latency.p95_ms if delivery.latency else None
    return [
        Line("offered", f"{load.offered_per_s:.1f}/s", "", None),
        Line(
            "achieved",
            f"{load.achieved_per_s:.1f}/s, {percent(achieved)}",
            ">= 99 %",
            achieved >= 0.99,  # noqa: PLR2004
        ),
        _below("acceptance p50", load.acceptance.p50_ms, 15, "<= 15 ms"),
        _below("acceptance p95", load.acceptance.p95_ms, 50, "<= 50 ms"),
        _below("acceptance p99", load.acceptance.p99_ms, 100, "<= 100 ms"),
        Line(
            "delivery p95",
            "nothing arrived" if p95_ms is None else f"{p95_ms:.1f} ms",
            "< 1000 ms",
            p95_ms is not None and p95_ms < 1000,  # noqa: PLR2004
        ),
        Line("errors", f"{errors}" + (f" ({details})" if details else ""), "0", errors == 0),
        none("lost", delivery.lost),
        none("duplicated", delivery.duplicated),
        none("reordered", delivery.reordered),
        Line(
            "backlog empty after",
            "not within a minute" if emptied is None else f"{emptied:.1f} s",
            "<= 5 s",
            emptied is not None and emptied <= 5,  # noqa: PLR2004
        ),
    ]


def warm_up(trial: Trial | None) -> list[Line]:
    """Show how slow it was while it warmed up, and hold it against what never depends on that."""
    if trial is None:
        return []
    delivered = trial.delivery.latency
    delivery = f"{delivered.p95_ms:.1f} ms" if delivered else "nothing arrived"
    return [
        Line("warm-up: acceptance p95", f"{trial.load.acceptance.p95_ms:.1f} ms", "", None),
        Line("warm-up: delivery p95", delivery, "", None),
        none("warm-up: errors", _errors(trial.load)),
        none("warm-up: lost, duplicated or reordered", _unkept(trial)),
    ]


def _errors(load: Load) -> int:
    return sum(load.errors.values()) + load.dropped


def _unkept(trial: Trial) -> int:
    return trial.delivery.lost + trial.delivery.duplicated + trial.delivery.reordered


def _below(name: str, value_ms: float, limit_ms: float, target: str) -> Line:
    return Line(name, f"{value_ms:.1f} ms", target, value_ms <= limit_ms)


def none(name: str, count: int) -> Line:
    """Return the line of something that must not happen."""
    return Line(name, str(count), "0", count == 0)


def broken_at(trial: Trial) -> list[str]:
    """Return what of the targets gives a rate away as too high."""
    lines = [line for line in verdict(trial) if line.name not in CEILING_IGNORES]
    return [f"{line.name} {line.value}" for line in lines if line.met is False]


def stopped_by(trial: Trial) -> str:
    """Say which resource was used up, and by which process most."""
    machine = trial.machine
    if trial.load.errors.get("429"):
        return "the gateway's rate limit of the API key (rate_limit_per_s)"
    if not machine.platform:
        return "unknown: no process of the platform was seen"
    largest = max(machine.platform, key=lambda use: use.cpu_percent)
    busiest = max(machine.platform, key=lambda use: use.busiest_percent)
    told = f"the busiest process is one of {busiest.name} with {busiest.busiest_percent:.0f} %"
    if machine.busy_share >= MACHINE_FULL_SHARE:
        return (
            f"the machine: its {machine.cores} cores are {machine.busy_share:.0%} busy, most for "
            f"{largest.name} ({largest.cpu_percent:.0f} % of a core); {told}"
        )
    if busiest.busiest_percent >= PROCESS_FULL_PERCENT:
        return f"{busiest.name}: one process uses {busiest.busiest_percent:.0f} % of a core"
    return f"no CPU: the machine is {machine.busy_share:.0%} busy, {told}; it waits for something"


def mean_of(before: Mapping[str, Part], after: Mapping[str, Part]) -> dict[str, Part]:
    """Return what a part could do on average around the load."""
    return {name: _mean(before[name], after[name]) for name in before}


def _mean(a: Part, b: Part) -> Part:
    return Part(
        per_s=(a.per_s + b.per_s) / 2,
        alone=Latency(
            p50_ms=(a.alone.p50_ms + b.alone.p50_ms) / 2,
            p95_ms=(a.alone.p95_ms + b.alone.p95_ms) / 2,
            p99_ms=(a.alone.p99_ms + b.alone.p99_ms) / 2,
            max_ms=(a.alone.max_ms + b.alone.max_ms) / 2,
        ),
    )


def floor_of(parts: Mapping[str, Part], steps: Sequence[str]) -> Latency:
    """Return what the steps take alone, one after the other."""
    alone = [parts[step].alone for step in steps]
    return Latency(
        p50_ms=sum(latency.p50_ms for latency in alone),
        p95_ms=sum(latency.p95_ms for latency in alone),
        p99_ms=sum(latency.p99_ms for latency in alone),
        max_ms=sum(latency.max_ms for latency in alone),
    )


def percent(share: float) -> str:
    """Return a share in words."""
    return f"{100 * share:.1f} %"


def times(value: float, base: float) -> str:
    """Return a value as a multiple of a bare one."""
    return f"{value / base:.1f} x" if base else ""


def lines_of(report: Report) -> list[Line]:
    """Return the figures with targets, each also as a ratio."""
    ratios = ratios_of(report)
    cpu = Line("CPU of the platform", f"{cpu_ms(report.trial):.2f} ms/message", "", None)
    lines = [*verdict(report.trial), cpu, *warm_up(report.warm_up)]
    return [line._replace(ratio=ratios.get(line.name, "")) for line in lines]


def ratios_of(report: Report) -> dict[str, str]:
    """Return each figure as a multiple of what bare parts take, or as a share of all messages."""
    trial, parts = report.trial, mean_of(report.before, report.after)
    accept, deliver = floor_of(parts, ACCEPTANCE_STEPS), floor_of(parts, DELIVERY_STEPS)
    slowest = min(part.per_s for part in parts.values())
    load, delivery = trial.load, trial.delivery
    errors = _errors(load)
    emptied, delivered = delivery.emptied_after_s, delivery.latency
    counts = {name: getattr(delivery, name) for name in ("lost", "duplicated", "reordered")}
    return {
        "offered": f"{percent(load.offered_per_s / slowest)} of the slowest",
        "achieved": f"{percent(load.achieved_per_s / slowest)} of the slowest",
        "acceptance p50": times(load.acceptance.p50_ms, accept.p50_ms),
        "acceptance p95": times(load.acceptance.p95_ms, accept.p95_ms),
        "acceptance p99": times(load.acceptance.p99_ms, accept.p99_ms),
        "delivery p95": times(delivered.p95_ms, deliver.p95_ms) if delivered else "",
        "errors": of_all(errors, load.acknowledged + errors),
        **{name: of_all(count, load.acknowledged) for name, count in counts.items()},
        "backlog empty after": "" if emptied is None else times(1000 * emptied, deliver.p95_ms),
        "CPU of the platform": times(cpu_ms(trial), deliver.p50_ms),
        **_warm_up_ratios(report.warm_up, accept, deliver),
    }


def _warm_up_ratios(trial: Trial | None, accept: Latency, deliver: Latency) -> dict[str, str]:
    if trial is None:
        return {}
    delivered, errors = trial.delivery.latency, _errors(trial.load)
    acknowledged = trial.load.acknowledged
    return {
        "warm-up: acceptance p95": times(trial.load.acceptance.p95_ms, accept.p95_ms),
        "warm-up: delivery p95": times(delivered.p95_ms, deliver.p95_ms) if delivered else "",
        "warm-up: errors": of_all(errors, acknowledged + errors),
        "warm-up: lost, duplicated or reordered": of_all(_unkept(trial), acknowledged),
    }


def cpu_ms(trial: Trial) -> float:
    """Return the CPU time that the platform spends on one message, on all cores together."""
    achieved = trial.load.achieved_per_s
    return 10 * trial.machine.platform_percent / achieved if achieved else 0.0


def of_all(count: int, whole: int) -> str:
    """Return a count as a share of all messages."""
    return f"{100 * count / whole:.3f} % of all" if whole else ""


def warnings(report: Report) -> list[str]:
    """Say what makes the figures doubtful though they count."""
    found = []
    for name, before in report.before.items():
        drift = report.after[name].per_s / before.per_s - 1
        if abs(drift) > DRIFT_MAX:
            found.append(f"{name} did {drift:+.0%} after the load: the machine was not calm")
    return found + disturbances(report.trial.load, report.trial.machine)


def disturbances(load: Load, machine: Machine) -> list[str]:
    """Say what of one load makes its figures doubtful though they count."""
    found = []
    others = machine.others_percent
    if others > OTHERS_PERCENT_MAX:
        found.append(f"processes that are no part of this used {others:.0f} % of a core meanwhile")
    if (stolen := machine.stolen_percent) > STOLEN_PERCENT_MAX:
        found.append(f"the host of this machine took {stolen:.0f} % of a core away meanwhile")
    if load.dropped:
        found.append(
            "all users of k6 were waiting at times: the percentiles lack the requests that were "
            "due then"
        )
    return found


def passed(report: Report) -> bool:
    """Tell whether every target is met."""
    return all(line.met is not False for line in lines_of(report))
