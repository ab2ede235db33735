"""A picture of one repeat: what came twice and what was overtaken, by conversation and time."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from chaos.checkers.deliveries import judge
from chaos.history import Receipt
from chaos.report.repeat_charts import bands, span
from chaos.report.replay import Replay
from chaos.report.svg import Plot
from chaos.units import show

LANES_SHOWN_MAX = 20
MARKS_SHOWN_MAX = 400
MARGIN_S = 0.5


class Mark(Struct, frozen=True):
    """A message that came twice or was overtaken: where, when, and since when it was due."""

    lane: str
    kind: str
    since: float
    at: float
    words: str


def findings(replay: Replay) -> str:
    """Draw every duplicate and every message out of order; one sentence when there are none."""
    found = marks(replay)
    if not found:
        return _none(replay)
    lanes = list(dict.fromkeys(mark.lane for mark in found))
    shown = lanes[:LANES_SHOWN_MAX]
    drawn = [mark for mark in found if mark.lane in shown][:MARKS_SHOWN_MAX]
    since, until = span(replay)
    since = min([since, *(mark.since - MARGIN_S for mark in drawn)])
    until = max([until, *(mark.at + MARGIN_S for mark in drawn)])
    plot = Plot(
        "Messages that came twice or out of order",
        (since, until),
        (0, len(shown) + 1),
        height=60 + 26 * len(shown),
    )
    _arrivals(plot, replay, shown, (since, until))
    for mark in drawn:
        _draw(plot, mark, _row(shown, mark.lane))
    for lane in shown:
        partition = replay.facts.partition_of.get(lane, "?")
        plot.row(_row(shown, lane), f"{lane[:8]} (partition {partition})")
    bands(plot, replay)
    plot.mark(0.0, "ink", "fault")
    more = len(found) - len(drawn)
    rest = f" {more} more findings are not drawn." if more else ""
    return plot.drawn(
        '<span class="sign false">✕</span>kept again <span class="sign ordered">◆</span>arrived '
        'after a later one <span class="key c1"></span>every other message of the conversation. '
        "A line leads back to the first time, or to the message that overtook. Only conversations "
        f"with a finding are drawn.{rest}"
    )


def marks(replay: Replay) -> list[Mark]:
    """Return what the checker found, as it happened, in seconds of the picture.

    A message that several others overtook is told once.
    """
    facts = replay.facts
    judged = judge(facts.sends, facts.receipts, {})
    sent = {send.content: send for send in facts.sends}
    texts = {(send.lane, send.sequence): send.content for send in facts.sends}
    kept = _kept(facts.receipts)
    found = [
        Mark(
            sent[text].lane if text in sent else "nobody's",
            "doubled",
            kept[text][0].received_at - replay.zero,
            again.received_at - replay.zero,
            f"message {text.rpartition(' ')[2]} was kept again "
            f"{show(again.received_at - kept[text][0].received_at)} after the first time",
        )
        for text in judged.doubled
        for again in kept[text][1:]
    ]
    overtaken = {(lane, early): late for lane, early, late in reversed(judged.reordered)}
    for (lane, early), late in overtaken.items():
        first, second = (kept[texts[lane, sequence]][0].received_at for sequence in (early, late))
        words = f"message {early} arrived {show(first - second)} after message {late}"
        found.append(Mark(lane, "reordered", second - replay.zero, first - replay.zero, words))
    return sorted(found, key=lambda mark: mark.at)


def _kept(receipts: Iterable[Receipt]) -> Mapping[str, list[Receipt]]:
    found: defaultdict[str, list[Receipt]] = defaultdict(list)
    for receipt in sorted(receipts, key=lambda r: r.seq):
        if receipt.kept:
            found[receipt.text].append(receipt)
    return found


def _none(replay: Replay) -> str:
    said = (
        "No message was kept twice, and none overtook another."
        if replay.facts.receipts
        else "No receipt was read: whether messages came twice or out of order cannot be told."
    )
    return f"<p>{said}</p>"


def _row(shown: Sequence[str], lane: str) -> float:
    return len(shown) - shown.index(lane)


def _arrivals(
    plot: Plot, replay: Replay, shown: Sequence[str], within: tuple[float, float]
) -> None:
    for lane in shown:
        times = [
            d.receipt.received_at - replay.zero
            for d in replay.delivered
            if d.send.lane == lane and d.receipt is not None
        ]
        inside = [at for at in times if within[0] <= at <= within[1]]
        plot.dots([(at, _row(shown, lane)) for at in inside], "c1 faint")


def _draw(plot: Plot, mark: Mark, row: float) -> None:
    css = "gapline" if mark.kind == "doubled" else "c2"
    plot.line([(mark.since, row), (mark.at, row)], css, mark.words)
    if mark.kind == "doubled":
        plot.cross(mark.at, row, "gapline bold", mark.words)
    else:
        plot.diamond(mark.at, row, "fill c2", mark.words)
