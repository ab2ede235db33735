"""The time line of one fault: when it hit, was noticed, was mended, and what users felt of it.

Everything here is pure: facts in, intervals out. Definitions are the ones of the design: a target
is later held against the interval, not against a point inside it.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from chaos import rebalances
from chaos.history import Outcome, Receipt, Send
from chaos.observations import Interval, Kind, Observation, Source, around, common, hull
from chaos.statistics import quantile

RECEIPT_ERROR_S = 0.001
TOLERANCE_S = 0.005
"""What clocks on one machine and truncated milliseconds may differ by."""
SLO_S = 2.0
BUDGET_MINUTES = 43.2
"""A month's error budget at 99.9 %."""


class Hit(Struct, frozen=True, kw_only=True):
    """An instance that a fault hit: when, and what it owned then."""

    job: str
    instance: str
    at: Interval
    group: str | None = None
    partitions: tuple[int, ...] = ()


class Facts(Struct, frozen=True, kw_only=True):
    """All that is known of one run."""

    observations: Sequence[Observation]
    sends: Sequence[Send]
    receipts: Sequence[Receipt]
    partition_of: Mapping[str, int]
    """The partition of each lane."""
    hits: Sequence[Hit]
    began_at: float
    fault: Interval | None
    """From the injection to the confirmed heal; None where nothing is broken."""
    ended_at: float
    """When the load stopped."""


class Delivered(Struct, frozen=True):
    """A message and its first receipt that the provider kept (None: none)."""

    send: Send
    receipt: Receipt | None
    partition: int

    @property
    def latency_s(self) -> float:
        """How long it took from the customer's request; inf when it never arrived."""
        return self.receipt.received_at - self.send.invoked_at if self.receipt else math.inf


class Timeline(Struct, frozen=True, kw_only=True):
    """What was derived. Durations count from `killed`; None where it cannot be told."""

    killed: Interval | None
    detected: Interval | None
    detected_by: dict[str, Interval]
    episodes: list[rebalances.Episode]
    processed: dict[int, Interval]
    delivered: dict[int, Interval]
    gaps: dict[int, Interval]
    orphans: tuple[int, ...]
    caught_up: Interval | None
    restored: Interval | None
    problems: list[str]


def deliveries(facts: Facts) -> list[Delivered]:
    """Return every message that may exist with its first kept receipt, as they were sent."""
    first: dict[str, Receipt] = {}
    for receipt in sorted(facts.receipts, key=lambda r: r.received_at):
        if receipt.kept:
            first.setdefault(receipt.text, receipt)
    return [
        Delivered(send, first.get(send.content), facts.partition_of[send.lane])
        for send in sorted(facts.sends, key=lambda s: s.invoked_at)
        if send.outcome is not Outcome.FAIL
    ]


def derive(facts: Facts) -> Timeline:
    """Derive the time line of a run."""
    found = deliveries(facts)
    hits = facts.hits
    killed = hull(hit.at for hit in hits) if hits else facts.fault
    if killed is not None and not hits:
        killed = around(killed.lo, TOLERANCE_S)
    problems: list[str] = []
    by_source = _detections(facts)
    detected = _agreed("detection", by_source, problems)
    groups = sorted({hit.group for hit in hits if hit.group is not None})
    since = killed.lo if killed is not None else facts.began_at
    orphans = tuple(sorted({p for hit in hits for p in hit.partitions}))
    told = [episode for g in groups for episode in _episodes(facts, g, since)]
    delivered = _first_deliveries(facts, found, orphans, killed, problems)
    return Timeline(
        killed=killed,
        detected=detected,
        detected_by=by_source,
        episodes=told,
        processed=_first_processed(facts, orphans, since),
        delivered=delivered,
        gaps=_gaps(facts, found),
        orphans=orphans,
        caught_up=_caught_up(facts, found),
        restored=next((o.when for o in facts.observations if o.kind is Kind.RESTORED), None),
        problems=problems + [f"a rebalance of {e.group} never ended" for e in told if not e.end],
    )


def _episodes(facts: Facts, group: str, since: float) -> list[rebalances.Episode]:
    return rebalances.episodes(facts.observations, group, since)


def _detections(facts: Facts) -> dict[str, Interval]:
    """Return, for each source, when the group had lost the first member that was hit."""
    found: dict[str, Interval] = {}
    for hit in facts.hits:
        for source in (Source.BROKER, Source.WORKER, Source.GROUP):
            left = [
                o.when
                for o in facts.observations
                if o.kind is Kind.MEMBER_LEFT
                and o.source is source
                and (o.instance == hit.instance or hit.instance in (o.member or ""))
                and o.when.hi >= hit.at.lo
            ]
            if not left:
                continue
            first = min(left, key=lambda when: when.hi)
            if source is Source.WORKER:
                # A survivor tells when it had the answer: the member was gone by then.
                first = Interval(min(hit.at.lo, first.hi), first.hi)
            known = found.get(source.value)
            if known is None or first.hi > known.hi:
                found[source.value] = first
    return found


def _agreed(what: str, sources: Mapping[str, Interval], problems: list[str]) -> Interval | None:
    if not sources:
        return None
    agreed = common(sources.values(), TOLERANCE_S)
    if agreed is None:
        words = ", ".join(f"{name} {i.lo:.3f} to {i.hi:.3f}" for name, i in sources.items())
        problems.append(f"the sources of {what} disagree: {words}")
        return hull(sources.values())
    return agreed


def _first_processed(facts: Facts, orphans: Sequence[int], since: float) -> dict[int, Interval]:
    found: dict[int, Interval] = {}
    groups = {hit.group for hit in facts.hits}
    for o in sorted(facts.observations, key=lambda o: o.when.lo):
        if o.kind is Kind.PROCESSED and o.group in groups and o.when.lo >= since:
            for partition in set(o.partitions) & set(orphans):
                found.setdefault(partition, o.when)
    return found


def _first_deliveries(
    facts: Facts,
    found: Sequence[Delivered],
    orphans: Sequence[int],
    killed: Interval | None,
    problems: list[str],
) -> dict[int, Interval]:
    """Return when each orphaned partition first delivered a message sent after the kill.

    Such a message cannot have passed through the victim: this is never too early.
    """
    answer: dict[int, Interval] = {}
    if killed is None:
        return answer
    for partition in orphans:
        later = [d for d in found if d.partition == partition and d.send.invoked_at > killed.hi]
        arrived = [d.receipt.received_at for d in later if d.receipt is not None]
        if arrived:
            answer[partition] = around(min(arrived), RECEIPT_ERROR_S)
        elif any(d.send.outcome is Outcome.OK for d in later):
            answer[partition] = Interval(facts.ended_at, math.inf)
            problems.append(f"partition {partition} did not deliver again")
        else:
            problems.append(f"no message was sent on partition {partition} after the fault")
    return answer


def _gaps(facts: Facts, found: Sequence[Delivered]) -> dict[int, Interval]:
    """Return the longest pause of each partition around the fault beyond what is usual.

    The error is the time between two messages of a partition.
    """
    if facts.fault is None:
        return {}
    arrivals: defaultdict[int, list[float]] = defaultdict(list)
    sent: defaultdict[int, list[float]] = defaultdict(list)
    for d in found:
        sent[d.partition].append(d.send.invoked_at)
        if d.receipt is not None:
            arrivals[d.partition].append(d.receipt.received_at)
    usual: list[float] = []
    for times in arrivals.values():
        times.sort()
        usual += [b - a for a, b in pairwise(times) if b < facts.fault.lo]
    baseline = quantile(usual, 0.999) if usual else 0.0
    answer: dict[int, Interval] = {}
    for partition, times in arrivals.items():
        span = max(sent[partition]) - min(sent[partition])
        step = span / max(1, len(sent[partition]) - 1)
        during = [b - a for a, b in pairwise(times) if b >= facts.fault.lo]
        longest = max(during, default=0.0) - baseline
        answer[partition] = Interval(longest - step, longest + step).at_least(0.0)
    return answer


def _caught_up(facts: Facts, found: Sequence[Delivered]) -> Interval | None:
    """Return when the last message that was slower than usual had arrived."""
    if facts.fault is None:
        return None
    promised = [d for d in found if d.send.outcome is Outcome.OK]
    before = [d.latency_s for d in promised if d.receipt and d.receipt.received_at < facts.fault.lo]
    if not before:
        return None
    band = max(quantile(before, 0.99) * 2, SLO_S / 10)
    slow = [d for d in promised if d.latency_s > band and d.send.invoked_at > facts.fault.lo - band]
    if any(d.receipt is None for d in slow):
        return Interval(facts.ended_at, math.inf)
    ends = [d.receipt.received_at for d in slow if d.receipt is not None]
    return around(max(ends, default=facts.fault.lo), RECEIPT_ERROR_S)


def metrics(line: Timeline, facts: Facts) -> dict[str, Interval]:
    """Return the durations (in seconds) and shares of a run that can be told."""
    found: dict[str, Interval | None] = {}
    killed = line.killed
    if killed is not None and line.detected is not None:
        found["detection_s"] = line.detected.minus(killed).at_least(0.0)
    lasted = [episode.lasted for episode in line.episodes]
    if lasted and None not in lasted:
        known = [length for length in lasted if length is not None]
        found["rebalance_s"] = Interval(max(i.lo for i in known), max(i.hi for i in known))
        found["stopped_s"] = rebalances.stopped(line.episodes)
    if killed is not None and line.delivered and set(line.delivered) == set(line.orphans):
        after = [when.minus(killed).at_least(0.0) for when in line.delivered.values()]
        found["failover_s"] = Interval(max(i.lo for i in after), max(i.hi for i in after))
        found["failover_first_s"] = Interval(min(i.lo for i in after), min(i.hi for i in after))
    if killed is not None and line.processed and set(line.processed) == set(line.orphans):
        last = max(line.processed.values(), key=lambda when: when.hi)
        found["processed_s"] = last.minus(killed).at_least(0.0)
    ends = (
        ("rebalanced_s", line.episodes[0].end if line.episodes else None),
        ("caught_up_s", line.caught_up),
        ("restored_s", line.restored),
    )
    for name, when in ends:
        if killed is not None and when is not None:
            found[name] = when.minus(killed).at_least(0.0)
    found |= _felt(line, facts)
    return {name: value for name, value in found.items() if value is not None}


def _felt(line: Timeline, facts: Facts) -> dict[str, Interval | None]:
    found: dict[str, Interval | None] = {}
    orphaned = [gap for p, gap in line.gaps.items() if p in line.orphans or not line.orphans]
    others = [gap for p, gap in line.gaps.items() if line.orphans and p not in line.orphans]
    for name, gaps in (("unavailability_s", orphaned), ("collateral_s", others)):
        if gaps:
            found[name] = Interval(max(g.lo for g in gaps), max(g.hi for g in gaps))
    if line.gaps:
        lost = sum(gap.middle for gap in line.gaps.values())
        found["partition_seconds_lost"] = Interval(lost, lost)
        used = lost / len(line.gaps) / 60 / BUDGET_MINUTES
        found["error_budget_used"] = Interval(used, used)
    promised = [d for d in deliveries(facts) if d.send.outcome is Outcome.OK]
    latencies = [d.latency_s for d in promised]
    if latencies:
        within = sum(latency <= SLO_S for latency in latencies) / len(facts.sends)
        found["availability"] = Interval(within, within)
        for name, share in (("latency_p50_s", 0.5), ("latency_p99_s", 0.99), ("latency_max_s", 1)):
            value = quantile(latencies, share)
            found[name] = Interval(value, value)
    return found
