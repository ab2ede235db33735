"""Results of campaigns that were never run, for those who write, read and draw them."""

from collections.abc import Sequence

import msgspec

from chaos.observations import Interval
from chaos.results import Repeat, Results, measured, summaries
from chaos.verdicts import Valid


def repeat(
    number: int,
    metrics: dict[str, Interval],
    *,
    valid: Valid = Valid.TRUE,
    lost: int = 0,
    ended_at: float = 1.0,
) -> Repeat:
    """Return a repeat with these figures."""
    return Repeat(
        number=number,
        valid=valid,
        began_at=0.0,
        ended_at=ended_at,
        load_ended_at=ended_at,
        verdicts=[],
        metrics={name: measured(interval) for name, interval in metrics.items()},
        counts={"lost": lost},
    )


def results(repeats: Sequence[Repeat], **other: object) -> Results:
    """Return the results of a campaign of these repeats, with other fields as they are named."""
    made = Results(
        scenario="kill-router",
        title="Kill",
        hypothesis="It holds.",
        valid=Valid.TRUE,
        sentence="All was well.",
        began_at=0.0,
        ended_at=1.0,
        instance="dev",
        commit="abc",
        eviction=True,
        interrupted=False,
        tier=1,
        verdicts=[],
        promises=[],
        goals=[],
        metrics=summaries(repeats),
        predicted={},
        repeats=list(repeats),
        partitions={},
    )
    return msgspec.structs.replace(made, **other)
