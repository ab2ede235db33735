"""Rebalance episodes of a consumer group, put together from the broker's log and the members."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from chaos.observations import Interval, Kind, Observation, Source, hull


class Episode(Struct, frozen=True, kw_only=True):
    """From the moment a group stopped until every member had its new partitions.

    `end` is None while it was still going on. `evidence` are numbers of observations.
    """

    group: str
    start: Interval
    end: Interval | None
    generation: int | None = None
    evidence: tuple[int, ...] = ()

    @property
    def lasted(self) -> Interval | None:
        """How long the group stood still."""
        return self.end.minus(self.start).at_least(0.0) if self.end is not None else None


def episodes(observations: Iterable[Observation], group: str, since: float) -> list[Episode]:
    """Return the rebalances of a group that began after a time, first to last.

    The broker's log says when each began and when its coordinator was done; the members say when
    they had their partitions. The end is the latest of these. Without the broker's log the
    members' words alone are used, and without these the polled state of the group.
    """
    mine = sorted(
        (o for o in observations if o.group == group and o.when.hi >= since),
        key=lambda o: o.when.lo,
    )
    members = [o for o in mine if o.source is Source.WORKER]
    broker = [o for o in mine if o.source is Source.BROKER]
    if any(o.kind is Kind.REBALANCING for o in broker):
        return _with_members(_spans(broker, Kind.REBALANCING, group), members)
    if any(o.kind is Kind.REVOKED for o in members):
        return _of_members(members, group)
    polled = [o for o in mine if o.source is Source.GROUP]
    return _spans(polled, Kind.REBALANCING, group)


def _spans(mine: Sequence[Observation], start: Kind, group: str) -> list[Episode]:
    """Pair each start with the next assignment; starts in between belong to the same episode."""
    found: list[Episode] = []
    opened: list[Observation] = []
    for o in mine:
        if o.kind is start:
            opened.append(o)
        elif o.kind is Kind.ASSIGNED and opened:
            evidence = (*(p.number for p in opened), o.number)
            found.append(
                Episode(
                    group=group,
                    start=opened[0].when,
                    end=o.when,
                    generation=o.generation,
                    evidence=evidence,
                )
            )
            opened = []
    if opened:
        numbers = tuple(o.number for o in opened)
        found.append(Episode(group=group, start=opened[0].when, end=None, evidence=numbers))
    return found


def _with_members(spans: Sequence[Episode], members: Sequence[Observation]) -> list[Episode]:
    """Move each end to the last member's assignment before the next episode begins.

    Both are told to the millisecond, so one may seem to end in that in which the next begins.
    """
    found = []
    for episode, following in zip(spans, [*spans[1:], None], strict=True):
        until = following.start.lo if following is not None else float("inf")
        told = [
            o for o in members if o.kind is Kind.ASSIGNED and episode.start.lo <= o.when.lo < until
        ]
        if episode.end is None or not told:
            found.append(episode)
            continue
        ends = [episode.end, *(o.when for o in told)]
        end = Interval(max(e.lo for e in ends), max(e.hi for e in ends))
        evidence = (*episode.evidence, *(o.number for o in told))
        found.append(
            Episode(
                group=episode.group,
                start=episode.start,
                end=end,
                generation=episode.generation,
                evidence=evidence,
            )
        )
    return found


def _of_members(members: Sequence[Observation], group: str) -> list[Episode]:
    """Cut the members' words into episodes: one that was assigned and is revoked begins another."""
    runs: list[list[Observation]] = []
    assigned: set[str | None] = set()
    for o in members:
        if o.kind is Kind.REVOKED and (not runs or o.instance in assigned):
            runs.append([])
            assigned = set()
        if runs and o.kind in (Kind.REVOKED, Kind.ASSIGNED):
            runs[-1].append(o)
            assigned |= {o.instance} if o.kind is Kind.ASSIGNED else set()
    found = []
    for run in runs:
        ends = [o.when for o in run if o.kind is Kind.ASSIGNED]
        pending = {o.instance for o in run} - {o.instance for o in run if o.kind is Kind.ASSIGNED}
        end = Interval(max(e.lo for e in ends), max(e.hi for e in ends)) if ends else None
        found.append(
            Episode(
                group=group,
                start=run[0].when,
                end=None if pending else end,
                evidence=tuple(o.number for o in run),
            )
        )
    return found


def during(found: Iterable[Episode], at: Interval) -> bool:
    """Tell whether something began, at `at.lo`, while a group stood still for sure.

    When that started is known to the millisecond, which is how exactly a broker tells it.
    """
    return any(e.end is not None and e.start.lo <= at.lo <= e.end.lo for e in found)


def stopped(found: Iterable[Episode]) -> Interval | None:
    """Return for how long the group stood still altogether; None when an end is missing."""
    lengths = [episode.lasted for episode in found]
    if any(length is None for length in lengths):
        return None
    known = [length for length in lengths if length is not None]
    return Interval(sum(i.lo for i in known), sum(i.hi for i in known))


def whole(found: Sequence[Episode]) -> Interval:
    """Return the interval from the first start to the last end that is known."""
    return hull([e.start for e in found] + [e.end for e in found if e.end is not None])
