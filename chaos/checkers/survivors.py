"""How many instances of a job were alive at the worst moment, from exits and starts."""

from collections.abc import Iterable

from chaos.observations import Kind, Observation


def fewest(running: Iterable[str], observations: Iterable[Observation], job: str) -> int:
    """Return the smallest number of instances of a job that lived at one time.

    An exit counts from its earliest possible moment, a start from its latest.
    """
    alive = set(running)
    least = len(alive)
    changes = [
        (o.when.lo if o.kind is Kind.EXITED else o.when.hi, o.kind, o.instance)
        for o in observations
        if o.job == job and o.kind in (Kind.EXITED, Kind.STARTED) and o.instance is not None
    ]
    for _, kind, instance in sorted(changes, key=lambda change: change[0]):
        if kind is Kind.EXITED:
            alive.discard(instance)
        else:
            alive.add(instance)
        least = min(least, len(alive))
    return least
