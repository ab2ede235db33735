"""A repeat as it was, put together again from the files of its run."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from chaos import archive
from chaos.history import Receipt, Send
from chaos.observations import Observation
from chaos.results import Repeat
from chaos.timeline import Delivered, Facts, Timeline, deliveries, derive


class Replay(Struct, frozen=True, kw_only=True):
    """One repeat with its facts; `zero` is the moment from which pictures count."""

    repeat: Repeat
    facts: Facts
    line: Timeline
    delivered: list[Delivered]
    zero: float


def worst(repeats: Sequence[Repeat]) -> Repeat:
    """Return the repeat that users felt most."""

    def felt(repeat: Repeat) -> float:
        for name in ("failover_s", "unavailability_s"):
            if name in repeat.metrics:
                return repeat.metrics[name].interval.hi
        return -math.inf

    return max(repeats, key=felt)


def replay(folder: Path, repeats: Sequence[Repeat], partitions: Mapping[str, int]) -> list[Replay]:
    """Read the facts of some repeats."""
    history = archive.history(folder, {repeat.number for repeat in repeats})
    observations = archive.observations(folder)
    return [_one(repeat, partitions, observations, *history[repeat.number]) for repeat in repeats]


def _one(
    repeat: Repeat,
    partitions: Mapping[str, int],
    observations: Sequence[Observation],
    sends: list[Send],
    receipts: list[Receipt],
) -> Replay:
    facts = Facts(
        observations=[
            o for o in observations if o.when.hi >= repeat.began_at and o.when.lo <= repeat.ended_at
        ],
        sends=sends,
        receipts=receipts,
        partition_of=partitions,
        hits=repeat.hits,
        began_at=repeat.began_at,
        fault=repeat.fault.interval if repeat.fault is not None else None,
        ended_at=repeat.load_ended_at,
    )
    line = derive(facts)
    zero = line.killed.lo if line.killed is not None else repeat.began_at
    return Replay(repeat=repeat, facts=facts, line=line, delivered=deliveries(facts), zero=zero)
