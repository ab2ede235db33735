"""The pictures of the report show what was found, and say so where there is nothing."""

import re
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from chaos import archive
from chaos.clock import Clock
from chaos.history import Outcome, Receipt, Send
from chaos.observations import Interval, Kind, Observation, Source, around
from chaos.recorder import Recorder
from chaos.report import lag_chart, order_chart, repeat_charts, spread_charts, summary
from chaos.report.replay import Replay
from chaos.results import Repeat, Results, Row
from chaos.tests import campaigns
from chaos.timeline import Facts, Hit, deliveries, derive
from chaos.verdicts import Valid

replace = msgspec.structs.replace
LANES = ("aaaaaaaa-1", "bbbbbbbb-2")
KILL, ENDS, STEP_S = 10.0, 20.0, 0.1


def history() -> tuple[list[Send], list[Receipt]]:
    """Return a load on two conversations in which everything arrives once, in order, at once."""
    sends, receipts = [], []
    for number in range(int(ENDS / STEP_S)):
        lane, at = LANES[number % 2], number * STEP_S
        send = Send(
            message_id=uuid4(),
            lane=lane,
            sequence=number // 2,
            content=f"run {lane} {number // 2}",
            invoked_at=at,
            returned_at=at + 0.01,
            outcome=Outcome.OK,
            answer="202",
        )
        sends.append(send)
        receipts.append(receipt(number + 1, send.content, at + 0.02))
    return sends, receipts


def receipt(seq: int, text: str, at: float) -> Receipt:
    """Return what the provider kept."""
    return Receipt(seq=seq, received_at=at, answered_at=at, to="1", text=text, kept=True)


def saw(source: Source, kind: Kind, at: float, **more: object) -> Observation:
    """Return an observation of the group of routers."""
    found = Observation(source=source, kind=kind, when=around(at, 0.001), seen_at=at)
    return replace(found, **{"group": "router", **more})


def sample(at: float, *lag: int, group: str = "router") -> Observation:
    """Return a sample of the lag of the partitions from 0 on."""
    partitions = tuple(range(len(lag)))
    return saw(Source.GROUP, Kind.LAG, at, group=group, partitions=partitions, lag=lag)


def replayed(
    receipts: Sequence[Receipt] | None = None,
    observations: Sequence[Observation] = (),
    *,
    hit: bool = True,
) -> Replay:
    """Return a repeat in which partition 1 lost its owner."""
    sends, every = history()
    at = Interval(KILL, KILL)
    hits = [Hit(job="router", instance="a", at=at, group="router", partitions=(1,))] if hit else []
    facts = Facts(
        observations=observations,
        sends=sends,
        receipts=every if receipts is None else receipts,
        partition_of=dict(zip(LANES, range(2), strict=True)),
        hits=hits,
        began_at=0.0,
        fault=Interval(KILL, KILL + 1),
        ended_at=ENDS,
    )
    return Replay(
        repeat=repeat(1, 0.1),
        facts=facts,
        line=derive(facts),
        delivered=deliveries(facts),
        zero=KILL,
    )


def repeat(number: int, failover_s: float) -> Repeat:
    """Return a repeat with this failover; an infinite one never ended."""
    failover = Interval(failover_s if failover_s < ENDS else 9, failover_s)
    return campaigns.repeat(number, {"failover_s": failover}, ended_at=ENDS)


def results(*failovers_s: float, eviction: bool = True, valid: Valid = Valid.TRUE) -> Results:
    """Return the results of a campaign with these failovers."""
    repeats = [repeat(number, value) for number, value in enumerate(failovers_s, 1)]
    row = Row(name="failover", target=60.0, unit="s", measured=None, valid=valid)
    goal = replace(row, name="failover_worst", target=0.5)
    return campaigns.results(
        repeats,
        sentence="It was\n  so.",
        valid=valid,
        eviction=eviction,
        promises=[row],
        goals=[goal],
    )


def test_lag_is_drawn_for_each_partition_with_its_generations() -> None:
    """Every partition has its peak, the orphan is named, and the generations are numbered."""
    seen = [
        sample(9.5, 0, 0),
        sample(10.5, 3, 17),
        saw(Source.BROKER, Kind.REBALANCING, 10.2, generation=7),
        saw(Source.BROKER, Kind.ASSIGNED, 10.3, generation=8),
    ]
    drawn = lag_chart.lag(replayed(observations=seen))
    assert "partition 0: 3<" in drawn
    assert "partition 1, orphaned: 17<" in drawn
    assert re.findall(r">(\d+)</text>", drawn) == ["7", "8"]
    assert "full height is 17" in drawn
    (tall,) = re.findall(r'class="fill c6" d="([^"]+)"', drawn)
    assert [float(height) for height in re.findall(r"v(-[\d.]+)", tall)] == [-1, -lag_chart.PEAK]


def test_only_the_group_that_was_hit_is_drawn() -> None:
    """Where no group was hit all are drawn, and none where nothing was sampled."""
    seen = [sample(10.5, 1), sample(10.5, 2, group="connector-x")]
    assert lag_chart.lag(replayed(observations=seen)).count("<figure>") == 1
    assert lag_chart.lag(replayed(observations=seen, hit=False)).count("<figure>") == 2
    assert lag_chart.lag(replayed()) == ""


def test_generations_follow_each_other() -> None:
    """A generation ends when the group stops for the next one, at the latest when that begins."""
    seen = [
        saw(Source.BROKER, Kind.REBALANCING, 10.0, generation=4),
        saw(Source.BROKER, Kind.ASSIGNED, 11.0, generation=5),
        saw(Source.BROKER, Kind.ASSIGNED, 12.0, generation=6),
        saw(Source.BROKER, Kind.ASSIGNED, 11.5, generation=99, group="another"),
    ]
    found = lag_chart.generations(seen, "router")
    assert [(g.number, round(g.until, 2)) for g in found[:2]] == [(4, 10.0), (5, 12.0)]
    assert (found[2].number, found[2].until) == (6, float("inf"))


def test_samples_are_no_evidence_of_events() -> None:
    """The evidence shows events only; the raw lines tell every sample."""
    assert repeat_charts.evidence(replayed(observations=[sample(10.5, 1)])) == ""
    assert "[0, 1] are [3, 17] records behind" in repeat_charts.label(sample(10.5, 3, 17))


def test_a_sample_is_kept_and_is_no_news() -> None:
    """Whoever follows a run is told of events, and the samples do not push these aside."""
    recorder, told = Recorder(Clock()), list[Observation]()
    recorder.listeners.append(told.append)
    when = Interval(1.0, 2.0)
    kept = recorder.sample(Source.GROUP, Kind.LAG, when, lag=(1,))
    event = recorder.see(Source.GROUP, Kind.ASSIGNED, when)
    assert recorder.observations == [kept, event]
    assert (kept.number, event.number) == (1, 2)
    assert told == [event]


def test_a_clean_repeat_has_a_sentence_instead_of_marks() -> None:
    """Nothing to show is said, and told apart from nothing known."""
    assert order_chart.findings(replayed()) == (
        "<p>No message was kept twice, and none overtook another.</p>"
    )
    assert "cannot be told" in order_chart.findings(replayed(receipts=[]))


def test_a_platform_that_fell_silent_early_has_a_page_too() -> None:
    """Where nothing arrived in the time that is drawn there is no picture of latencies."""
    _, receipts = history()
    assert "Delivery latency" in repeat_charts.latency(replayed())
    assert repeat_charts.latency(replayed(receipts[:10])) == ""
    assert repeat_charts.flow(replayed(receipts[:10]))


def test_duplicates_and_reorders_are_marked() -> None:
    """Each is marked in its conversation, when it happened and since when."""
    sends, receipts = history()
    again = receipt(1000, sends[20].content, receipts[20].received_at + 0.7)
    early, late = receipts[101], receipts[103]
    swapped = {early.seq: replace(late, seq=early.seq, received_at=early.received_at)}
    swapped[late.seq] = replace(early, seq=late.seq, received_at=late.received_at)
    found = replayed([*(swapped.get(r.seq, r) for r in receipts), again])
    doubled, reordered = order_chart.marks(found)
    assert (doubled.lane, doubled.kind) == (LANES[0], "doubled")
    assert (doubled.since, doubled.at) == pytest.approx((-7.98, -7.28))
    assert doubled.words == "message 10 was kept again 700 ms after the first time"
    assert (reordered.lane, reordered.kind) == (LANES[1], "reordered")
    assert (reordered.since, reordered.at) == pytest.approx((0.12, 0.32))
    assert reordered.words == "message 50 arrived 200 ms after message 51"
    drawn = order_chart.findings(found)
    for lane in LANES:
        assert lane[:8] in drawn
    assert drawn.count(f"<title>{doubled.words}</title>") == 2


def test_many_findings_are_drawn_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A very bad repeat has a picture of bounded size, which says what it leaves out."""
    monkeypatch.setattr(order_chart, "MARKS_SHOWN_MAX", 5)
    _, receipts = history()
    twice = [replace(r, seq=1000 + r.seq) for r in receipts]
    drawn = order_chart.findings(replayed([*receipts, *twice]))
    assert f"{len(receipts) - 5} more findings are not drawn" in drawn


def test_what_never_ended_does_not_reach_the_top() -> None:
    """The share of repeats counts only those that were seen to end, and tells of the others."""
    found = results(0.1, float("inf"), 0.3, 0.2)
    assert spread_charts.reached(found, "failover_s") == [0.1, 0.2, 0.3]
    drawn = spread_charts.spread(found, [])
    assert "3 of 4 repeats" in drawn
    assert "In 1 of them it was not seen to end" in drawn
    assert "this run (4 repeats)" in drawn
    for target in ("goal 500 ms", "promise 60 s"):
        assert target in drawn


def test_eviction_on_and_off_are_drawn_together() -> None:
    """A run of the same scenario with the other setting is drawn too, another scenario's is not."""
    found, off = results(0.1, 0.2), results(6.5, 7.0, eviction=False)
    alone = spread_charts.spread(found, [found, replace(off, scenario="pause-router")])
    assert "eviction" not in alone
    both = spread_charts.spread(found, [found, off])
    assert "eviction on (2 repeats)" in both
    assert "eviction off (2 repeats)" in both
    assert "failover, eviction off: 6.50 s" in both


def test_the_summary_says_why_and_fits_a_table(tmp_path: Path) -> None:
    """What did not pass is told in one line each, also what left no results."""
    bad = results(0.1, valid=Valid.FALSE)
    text = summary.markdown([bad, results(0.2)], {"pause-router": "RuntimeError: broken"})
    assert "- **kill-router**: false: It was so.\n" in text
    assert "- **pause-router**: unknown: RuntimeError: broken\n" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 5
    assert len({row.count("|") for row in rows}) == 1
    assert "- **" not in summary.markdown([results(0.2)])
    written = summary.write(tmp_path, bad)
    assert written == tmp_path / archive.SUMMARY
    assert "| failover | 60 s | not measured | false |" in written.read_text()
