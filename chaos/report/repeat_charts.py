"""Pictures of one repeat: who owned which partition, what users felt, who saw what when."""

import math
from collections import Counter, defaultdict
from itertools import pairwise

from chaos.history import Outcome
from chaos.observations import Kind, Observation, Source
from chaos.report.replay import Replay
from chaos.report.svg import Plot
from chaos.statistics import quantile
from chaos.units import show

BUCKET_S = 0.25
LATENCY_FLOOR_S = 0.001
GAP_SHOWN_S = 0.02
OWNERS = ("c1", "c2", "c3", "c4", "c5", "c6", "c7")
BEFORE_S, AFTER_S = 3.0, 3.0
"""What is shown before the fault and after the recovery."""


def span(replay: Replay) -> tuple[float, float]:
    """Return from when to when a repeat is drawn."""
    sends = replay.facts.sends
    first = min((s.invoked_at for s in sends), default=replay.zero) - replay.zero
    last = replay.facts.ended_at - replay.zero
    ends = [e.end.hi for e in replay.line.episodes if e.end is not None]
    ends += [w.hi for w in (replay.line.restored, replay.facts.fault) if w is not None]
    ends = [end - replay.zero for end in ends if math.isfinite(end)]
    return max(first, -BEFORE_S), min(last, max([*ends, BEFORE_S]) + AFTER_S)


def bands(plot: Plot, replay: Replay) -> None:
    """Draw the fault as a hatched band."""
    fault = replay.facts.fault
    if fault is not None:
        plot.band(fault.lo - replay.zero, fault.hi - replay.zero, "the fault")


def swimlanes(replay: Replay) -> str:
    """Draw each partition over time: the colour is its owner, red a gap in its deliveries."""
    partitions = sorted(set(replay.facts.partition_of.values()))
    if not partitions or not replay.delivered:
        return ""
    since, until = span(replay)
    plot = Plot(
        "Partitions: who owned them, and when they stood still",
        (since, until),
        (0, len(partitions) + 1),
        height=60 + 20 * len(partitions),
    )
    colours: dict[str, str] = {}
    spans = _ownership(replay, since + replay.zero, until + replay.zero)
    gaps = _gaps(replay)
    for number, partition in enumerate(partitions, 1):
        row = len(partitions) + 1 - number
        orphan = " (orphaned)" if partition in replay.line.orphans else ""
        plot.row(row, f"partition {partition}{orphan}")
        for began, ended, owner in spans.get(partition, ()):
            css = colours.setdefault(owner, OWNERS[len(colours) % len(OWNERS)])
            label = f"partition {partition} owned by {owner[:8]}"
            plot.bar(began - replay.zero, ended - replay.zero, row, 12, f"fill soft {css}", label)
        for began, ended in gaps[partition]:
            label = f"nothing delivered for {show(ended - began)}"
            plot.bar(began - replay.zero, ended - replay.zero, row, 6, "gap", label)
    bands(plot, replay)
    plot.mark(0.0, "ink", "fault")
    legend = " ".join(f'<span class="key {css}"></span>{o[:8]}' for o, css in colours.items())
    return plot.drawn(
        f"{legend or 'No owner was seen'}. Hatched: the fault. Dark red: a pause between two "
        "deliveries longer than any before the fault."
    )


def _ownership(
    replay: Replay, since: float, until: float
) -> dict[int, list[tuple[float, float, str]]]:
    """Return who owned each partition when, from what the members and the hits say."""
    seen = replay.facts.observations
    groups = {hit.group for hit in replay.facts.hits} or {
        o.group for o in seen if o.kind is Kind.OWNS
    }
    events: list[tuple[float, str, tuple[int, ...] | None]] = [
        (o.when.hi, o.instance, o.partitions if o.kind is Kind.ASSIGNED else None)
        for o in seen
        if o.source is Source.WORKER
        and o.kind in (Kind.ASSIGNED, Kind.REVOKED)
        and o.group in groups
        and o.instance is not None
    ]
    events += [(hit.at.lo, hit.instance, None) for hit in replay.facts.hits]
    owners: dict[int, tuple[float, str]] = {
        p: (since, o.instance)
        for o in seen
        if o.kind is Kind.OWNS and o.group in groups and o.instance is not None
        for p in o.partitions
    }
    found: defaultdict[int, list[tuple[float, float, str]]] = defaultdict(list)
    for at, instance, partitions in sorted(events, key=lambda event: event[0]):
        for partition, (began, owner) in list(owners.items()):
            if owner == instance or (partitions is not None and partition in partitions):
                found[partition].append((began, at, owner))
                del owners[partition]
        for partition in partitions or ():
            owners[partition] = (at, instance)
    for partition, (began, owner) in owners.items():
        found[partition].append((began, until, owner))
    return {
        p: [(max(a, since), b, o) for a, b, o in spans if b > since] for p, spans in found.items()
    }


def _gaps(replay: Replay) -> dict[int, list[tuple[float, float]]]:
    """Return the pauses of each partition that are longer than any before the fault."""
    fault = replay.facts.fault
    times: defaultdict[int, list[float]] = defaultdict(list)
    for d in replay.delivered:
        if d.receipt is not None:
            times[d.partition].append(d.receipt.received_at)
    pairs = {p: list(pairwise(sorted(found))) for p, found in times.items()}
    every = [pair for found in pairs.values() for pair in found]
    usual = max([GAP_SHOWN_S, *(b - a for a, b in every if fault is None or b < fault.lo)])
    since = fault.lo if fault is not None else math.inf
    return defaultdict(
        list,
        {p: [(a, b) for a, b in v if b - a > usual and b >= since] for p, v in pairs.items()},
    )


def latency(replay: Replay) -> str:
    """Draw how long each message took, and the percentiles over time."""
    points = [
        (d.send.invoked_at - replay.zero, max(d.latency_s, LATENCY_FLOOR_S), d.partition)
        for d in replay.delivered
        if d.receipt is not None
    ]
    since, until = span(replay)
    points = [point for point in points if since <= point[0] <= until]
    if not points:
        return ""
    top = 10 ** math.ceil(math.log10(max(p[1] for p in points) * 1.05))
    plot = Plot("Delivery latency", (since, until), (LATENCY_FLOOR_S, top), height=280, log_y=True)
    plot.y_axis(" s")
    orphans = set(replay.line.orphans)
    plot.dots([(a, b) for a, b, p in points if p not in orphans], "c1 faint", 1.5)
    plot.dots([(a, b) for a, b, p in points if p in orphans], "c6 faint", 1.5)
    buckets: defaultdict[int, list[float]] = defaultdict(list)
    for a, b, _ in points:
        buckets[math.floor(a / BUCKET_S)].append(b)
    for share, css, words in ((0.5, "c3", "p50"), (0.99, "ink", "p99")):
        curve = [((n + 0.5) * BUCKET_S, quantile(buckets[n], share)) for n in sorted(buckets)]
        plot.line(curve, css, words)
    bands(plot, replay)
    plot.mark(0.0, "ink", "fault")
    return plot.drawn(
        '<span class="key c6"></span>partitions that lost their owner '
        '<span class="key c1"></span>others <span class="key c3"></span>p50 '
        '<span class="key inkkey"></span>p99. By the time of sending, logarithmic. Hatched: the '
        "fault."
    )


def _unseen(replay: Replay) -> list[tuple[float, float]]:
    """Return how many promised messages had not arrived, after each change."""
    promised = [d for d in replay.delivered if d.send.outcome is Outcome.OK]
    changes = [(d.send.invoked_at - replay.zero, 1) for d in promised]
    changes += [(d.receipt.received_at - replay.zero, -1) for d in promised if d.receipt]
    unseen, curve = 0, []
    for at, change in sorted(changes):
        unseen += change
        curve.append((at, float(unseen)))
    return curve


def _rates(replay: Replay) -> dict[str, Counter[int]]:
    """Return how many messages each bucket of time saw accepted, delivered, refused."""

    def bucket(at: float) -> int:
        return math.floor((at - replay.zero) / BUCKET_S)

    sends = replay.facts.sends
    return {
        "accepted": Counter(bucket(s.returned_at) for s in sends if s.outcome is Outcome.OK),
        "refused": Counter(bucket(s.returned_at) for s in sends if s.outcome is not Outcome.OK),
        "delivered": Counter(bucket(d.receipt.received_at) for d in replay.delivered if d.receipt),
    }


def flow(replay: Replay) -> str:
    """Draw what was accepted, delivered and refused per second, and what was unseen."""
    since, until = span(replay)
    rates = _rates(replay)
    curve = [point for point in _unseen(replay) if since <= point[0] <= until]
    if not curve:
        return ""
    buckets = range(math.floor(since / BUCKET_S), math.ceil(until / BUCKET_S))
    top = max([c[n] / BUCKET_S for c in rates.values() for n in buckets] + [v for _, v in curve])
    plot = Plot("Rates per second, and messages not yet seen", (since, until), (0, top * 1.1))
    plot.y_axis("")
    for name, css in (("accepted", "c1"), ("delivered", "c3"), ("refused", "gapline")):
        if rates[name]:
            points = [((n + 0.5) * BUCKET_S, rates[name][n] / BUCKET_S) for n in buckets]
            plot.line(points, css, name)
    plot.line(curve, "c4", "unseen")
    bands(plot, replay)
    plot.mark(0.0, "ink", "fault")
    return plot.drawn(
        '<span class="key c1"></span>accepted/s <span class="key c3"></span>delivered/s '
        '<span class="key gapkey"></span>refused/s <span class="key c4"></span>unseen (count)'
    )


def evidence(replay: Replay) -> str:
    """Draw what each source saw and when, with its error."""
    since, until = span(replay)
    seen = [o for o in replay.facts.observations if o.kind is not Kind.LAG]
    sources = [s for s in Source if any(o.source is s for o in seen)]
    if not sources:
        return ""
    plot = Plot(
        "Evidence: who saw what, and how exactly",
        (since, until),
        (0, len(sources) + 1),
        height=60 + 34 * len(sources),
    )
    for number, source in enumerate(sources, 1):
        row = len(sources) + 1 - number
        plot.row(row, source.value)
        for o in seen:
            lo, hi = o.when.lo - replay.zero, o.when.hi - replay.zero
            if o.source is source and hi >= since and lo <= until:
                words = f"{o.number}: {label(o)}, {lo:.3f} to {hi:.3f} s"
                plot.whisker(lo, hi, row, _css(o), words, f"#obs-{o.number}")
    bands(plot, replay)
    plot.mark(0.0, "ink", "fault")
    return plot.drawn("Each mark spans the interval in which the event must have happened.")


def label(o: Observation) -> str:
    """Return an observation in words."""
    about = " ".join(
        str(part)
        for part in (
            o.job,
            (o.instance or "")[:8],
            o.group,
            o.member and o.member[-8:],
            f"generation {o.generation}" if o.generation is not None else "",
            f"partitions {list(o.partitions)}" if o.partitions else "",
            f"are {list(o.lag)} records behind" if o.lag else "",
            o.detail,
        )
        if part
    )
    return f"{o.kind.value.replace('_', ' ')}: {about}"


def _css(o: Observation) -> str:
    if o.kind in (Kind.EXITED, Kind.TERMINATED, Kind.UNHEALTHY, Kind.MEMBER_LEFT):
        return "gapline"
    return "c2" if o.kind in (Kind.REBALANCING, Kind.REVOKED) else "c3"
