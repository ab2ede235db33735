"""The time line is derived from facts, and says so when they do not suffice."""

import math
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from chaos.history import Outcome, Receipt, Send
from chaos.observations import Interval, Kind, Observation, Source, around
from chaos.rebalances import during
from chaos.timeline import Facts, Hit, derive, metrics

replace = msgspec.structs.replace
KILL = 10.0
BACK = 10.25
PARTITIONS = 4
RATE = 20


def facts(*, back: float = BACK, ends: float = 20.0) -> Facts:
    """Return a run in which partitions 0 and 1 stand still from the kill until they are back."""
    sends: list[Send] = []
    receipts: list[Receipt] = []
    for number in range(int(ends * RATE)):
        for partition in range(PARTITIONS):
            at = (number + partition / PARTITIONS) / RATE
            arrives = at + 0.02
            if partition < 2 and arrives >= KILL:
                arrives = max(arrives, back)
            text = f"{partition} {number}"
            sends.append(
                Send(
                    message_id=uuid4(),
                    lane=str(partition),
                    sequence=number,
                    content=text,
                    invoked_at=at,
                    returned_at=at + 0.01,
                    outcome=Outcome.OK,
                    answer="202",
                )
            )
            if math.isfinite(arrives):
                receipts.append(
                    Receipt(
                        seq=len(receipts) + 1,
                        received_at=arrives,
                        answered_at=arrives,
                        to=str(partition),
                        text=text,
                        kept=True,
                    )
                )
    hit = Hit(
        job="router", instance="a", at=Interval(KILL, KILL), group="router", partitions=(0, 1)
    )
    return Facts(
        observations=rebalance(),
        sends=sends,
        receipts=receipts,
        partition_of={str(p): p for p in range(PARTITIONS)},
        hits=[hit],
        began_at=0.0,
        fault=Interval(KILL, 13.0),
        ended_at=ends,
    )


def saw(
    source: Source, kind: Kind, lo: float, hi: float | None = None, **more: object
) -> Observation:
    """Return an observation of the group of routers."""
    found = Observation(
        source=source, kind=kind, when=Interval(lo, lo if hi is None else hi), seen_at=lo
    )
    return replace(found, group="router", **more)


def rebalance() -> list[Observation]:
    """Return what broker, members and the polled group saw of the two rebalances after a kill."""
    return [
        saw(Source.BROKER, Kind.MEMBER_LEFT, 10.010, 10.011, member="router-a-77"),
        saw(Source.GROUP, Kind.MEMBER_LEFT, 9.95, 10.06, instance="a"),
        saw(Source.WORKER, Kind.MEMBER_LEFT, 10.012, instance="a"),
        saw(Source.BROKER, Kind.REBALANCING, 10.011, 10.012, generation=4),
        saw(Source.WORKER, Kind.REVOKED, 10.02, instance="b"),
        saw(Source.BROKER, Kind.ASSIGNED, 10.05, 10.051, generation=5),
        saw(Source.WORKER, Kind.ASSIGNED, 10.055, instance="b", partitions=(0, 1)),
        saw(Source.WORKER, Kind.ASSIGNED, 10.08, instance="c"),
        saw(Source.WORKER, Kind.PROCESSED, 10.1, instance="b", partitions=(1,)),
        saw(Source.BROKER, Kind.REBALANCING, 12.5, 12.501, generation=5),
        saw(Source.BROKER, Kind.ASSIGNED, 12.53, 12.531, generation=6),
        saw(Source.WORKER, Kind.ASSIGNED, 12.54, instance="a"),
    ]


def test_a_kill_is_measured_from_the_facts() -> None:
    """Detection, both rebalances, failover and unavailability have their definitions' values."""
    run = facts()
    line = derive(run)
    assert not line.problems
    assert line.detected == Interval(10.010, 10.011)
    found = metrics(line, run)
    assert found["detection_s"].hi == pytest.approx(0.011)
    assert [episode.generation for episode in line.episodes] == [5, 6]
    assert found["rebalance_s"].hi == pytest.approx(0.069)
    assert found["failover_s"].lo < 0.25 < found["failover_s"].hi < 0.2521
    assert line.processed == {1: around(10.1, 0)}
    assert found["unavailability_s"].lo < 0.25 < found["unavailability_s"].hi
    assert found["collateral_s"].lo == 0.0
    assert 10.2 < (line.caught_up or Interval(0, 0)).middle < 10.3
    assert found["availability"].lo == 1.0


def test_every_metric_is_described() -> None:
    """Whoever reads the results finds each name in the suite's description."""
    run = facts()
    every = [*run.observations, saw(Source.WORKER, Kind.PROCESSED, 10.2, partitions=(0,))]
    every.append(saw(Source.HARNESS, Kind.RESTORED, 12.6))
    found = metrics(derive(replace(run, observations=every)), run)
    assert found.keys() >= {"processed_s", "restored_s", "stopped_s"}
    text = Path(__file__).parents[1].joinpath("README.md").read_text()
    assert not [name for name in found if f"`{name}`" not in text]


def test_only_messages_sent_after_the_kill_count_as_failover() -> None:
    """What the victim may have handled before it died does not show that it was replaced."""
    run = facts(back=11.0)
    early = next(r for r in run.receipts if r.text == "0 199")
    assert early.received_at < KILL
    late = [replace(r, received_at=10.001) if r is early else r for r in run.receipts]
    line = derive(msgspec.structs.replace(run, receipts=late))
    assert line.delivered[0].lo > 10.99


def test_what_never_comes_back_has_no_upper_bound() -> None:
    """A partition that stays silent is censored at the end, and is a problem."""
    run = facts(back=math.inf)
    line = derive(run)
    assert metrics(line, run)["failover_s"] == Interval(10.0, math.inf)
    assert line.caught_up == Interval(20.0, math.inf)
    assert "partition 0 did not deliver again" in line.problems


def test_sources_that_contradict_each_other_are_told() -> None:
    """When the broker's log and the polled group cannot both be right, both are printed."""
    run = facts()
    wrong = saw(Source.GROUP, Kind.MEMBER_LEFT, 10.5, 10.6, instance="a")
    observations = [o for o in run.observations if o.source is not Source.GROUP]
    line = derive(replace(run, observations=[*observations, wrong]))
    assert line.detected == Interval(10.0, 10.6)
    assert "disagree" in line.problems[0]


@pytest.mark.parametrize("blind", [Source.BROKER, Source.WORKER])
def test_fewer_sources_still_find_both_rebalances(blind: Source) -> None:
    """Without the broker's log or without the members' words the others tell the episodes."""
    run = facts()
    observations = [o for o in run.observations if o.source is not blind]
    extra = (
        [saw(Source.WORKER, Kind.REVOKED, 12.501, instance="b")] if blind is Source.BROKER else []
    )
    extra += [saw(Source.WORKER, Kind.ASSIGNED, 12.52, instance="b")] if extra else []
    seen = sorted([*observations, *extra], key=lambda o: o.when.lo)
    seen = [o for o in seen if not (blind is Source.BROKER and o.instance == "c")]
    assert len(derive(replace(run, observations=seen)).episodes) == 2


def test_only_what_surely_began_during_a_rebalance_was_during_it() -> None:
    """Its end may not be in doubt; one that never ended proves nothing."""
    line = derive(facts())
    first = line.episodes[0]
    assert (first.start, first.end) == (Interval(10.011, 10.012), Interval(10.08, 10.08))
    for at, within in ((10.0109, False), (10.0111, True), (10.08, True), (10.081, False)):
        assert during(line.episodes, Interval(at, at + 0.02)) is within
    assert not during([replace(first, end=None)], Interval(10.05, 10.05))


def test_a_rebalance_may_end_in_the_millisecond_in_which_the_next_begins() -> None:
    """The last member's word ends the first, although broker and member tell it only roughly."""
    run = facts()
    last = saw(Source.WORKER, Kind.ASSIGNED, 10.0790, 10.0800, instance="c")
    following = [
        saw(Source.BROKER, Kind.REBALANCING, 10.0795, 10.0805, generation=5),
        saw(Source.BROKER, Kind.ASSIGNED, 10.0900, 10.0910, generation=6),
    ]
    seen = [o for o in run.observations if o.instance != "c" and o.when.lo < KILL + 1]
    first, second = derive(replace(run, observations=[*seen, last, *following])).episodes
    assert first.end == last.when
    assert second.end == following[-1].when
    assert during([first], Interval(10.07, 10.07))


def test_a_rebalance_without_an_end_is_no_measurement() -> None:
    """An episode that never ended gives no duration and is named."""
    run = facts()
    unfinished = [o for o in run.observations if o.kind is not Kind.ASSIGNED]
    line = derive(replace(run, observations=unfinished))
    assert "rebalance_s" not in metrics(line, run)
    assert "never ended" in line.problems[0]
