"""One channel's provider hangs: the other channels must not notice.

One load with two windows of one length. In the first nothing is wrong; in the second the provider
of one channel accepts every request, keeps nothing and never answers. What the deliveries of the
others took is compared by when each message was begun.
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from msgspec import Struct

from chaos.adapters.provider import Provider
from chaos.checkers.deliveries import Judgement, judge
from chaos.history import FinalState, Outcome, Receipt, Send
from scripts.bench import k6, verdict
from scripts.bench.conditions import Unfit
from scripts.bench.deliveries import (
    EMPTY_DEADLINE_S,
    Witness,
    comes,
    delivery_of,
    settle,
    watch,
)
from scripts.bench.figures import Conditions, Latency, Load, Machine, Trial, latency_of
from scripts.bench.trial import Field
from scripts.bench.verdict import Line, Refused
from scripts.tools.command import say

FAULT = {"kind": "hang", "keep": False}
"""Nothing is kept: what has no answer stays undelivered, and has to be visible as that."""
CHANGE_MAX = 0.20
WINDOW_SHARE_MIN = 0.9
WINDOW_CALM_S = 30.0
"""A load begins with new connections and addresses that no cache knows, for about a second. In a
window this long that is below the 5 % that p95 does not see, so nothing of it is left out."""
SETTLED_DEADLINE_S = 180.0
"""A connector looks again at a provider that failed after up to 30 s, gives up unknown outcomes
after 120 s, and then has the rest of what waited to send."""
ASKED_AT_ONCE = 20


class Hang(NamedTuple):
    """From when until when a provider hung, and how many requests met that."""

    set_at: float
    cleared_at: float
    met: int


class Span(NamedTuple):
    """A stretch of time, its end excluded."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


class Window(Struct, frozen=True, kw_only=True):
    """What was begun in one window: how it was accepted, and delivered by channel."""

    began_at: float
    seconds: float
    requests: int
    acceptance: Latency
    delivery: dict[str, Latency]


class HangReport(Struct, frozen=True, kw_only=True):
    """A whole load with a provider that hung in its second window.

    `drift` is how each channel's p95 changed between the halves of the first window, by itself;
    `settled_after_s` runs from the end of the hang, `emptied_after_s` from the last answer, and
    each is None when the wait for it was given up.
    """

    at: str
    conditions: Conditions
    warm_up: Trial | None = None
    channel: str
    met: int
    load: Load
    machine: Machine
    before: Window
    during: Window
    drift: dict[str, float]
    errors: dict[str, int]
    hung: Judgement
    others: Judgement
    settled_after_s: float | None
    emptied_after_s: float | None


def require_others(channels: Sequence[str], channel: str) -> None:
    """Raise Unfit unless a load has this channel and one to compare."""
    if channel not in channels:
        raise Unfit(f"{channel} is not part of this load; there are: {', '.join(channels)}.")
    if len(channels) == 1:
        raise Unfit(f"There is no channel beside {channel} that could be slowed down.")


async def measure(
    field: Field,
    conditions: Conditions,
    channel: str,
    rate_per_s: int,
    seconds: int,
    warm_up_s: int,
) -> HangReport:
    """Send at a rate for two windows, the provider hanging in the second; see what came of it."""
    await _require_well(field.providers)
    warm_up = await field.warm_up(rate_per_s, warm_up_s)
    say(f"sending {rate_per_s}/s for {seconds} s, then as long while {channel}'s provider hangs")
    plan = k6.plan(field.url, uuid4().hex[:12], field.lanes, rate_per_s, 2 * seconds)
    rest = {name: provider for name, provider in field.providers.items() if name != channel}
    hung = await Witness.begin({channel: field.providers[channel]}, plan.run)
    others = await Witness.begin(rest, plan.run)
    async with watch(field.kafka, field.providers) as backlog:
        idle_records = await backlog.records()
        hang, found, machine = await _load(field, plan, field.providers[channel], seconds)
        sends = k6.sends_of(found)
        of_hung = [send for send in sends if field.channel_of[send.lane] == channel]
        of_others = [send for send in sends if field.channel_of[send.lane] != channel]
        states, settled = await follow(hung, of_hung, field.platform.api.final_state)
        settled_after_s = time.time() - hang.cleared_at if settled else None
        _, emptied = await settle(backlog, idle_records, others, of_others, found.ended_at)
        await hung.read()
    spans = spans_of(sends, hang)
    if reason := refusal(k6.load_of(found), machine, hang, spans[0].seconds / seconds):
        raise Refused(reason)
    receipts = hung.receipts | others.receipts
    return HangReport(
        at=datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ"),
        conditions=conditions,
        warm_up=warm_up,
        channel=channel,
        met=hang.met,
        load=k6.load_of(found),
        machine=machine,
        before=window_of(sends, receipts, spans[0]),
        during=window_of(sends, receipts, spans[1]),
        drift=drift_of(sends, receipts, spans[0]),
        errors=errors_of(sends, field.channel_of),
        hung=judge(of_hung, hung.all, states),
        others=judge(of_others, others.all, {}),
        settled_after_s=settled_after_s,
        emptied_after_s=emptied,
    )


async def _require_well(providers: Mapping[str, Provider]) -> None:
    for name, provider in providers.items():
        if await provider.faults():
            where = f"{provider.url}/_sim/faults"
            raise Unfit(f"The provider of {name} has faults already: curl -X DELETE {where}")


async def _load(
    field: Field, plan: k6.Plan, provider: Provider, seconds: int
) -> tuple[Hang, k6.Run, Machine]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        loading = asyncio.create_task(field.put_on(plan, folder), name="load")
        try:
            hang = await break_in(provider, loading, lambda: k6.has_begun(folder), seconds)
            return hang, *await loading
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)


async def break_in(
    provider: Provider, loading: asyncio.Task[Any], has_begun: Callable[[], bool], seconds: float
) -> Hang:
    """Let a provider hang in the second window of a load; a load that ends ends both."""
    await k6.begun(loading, has_begun)
    await asyncio.wait({loading}, timeout=seconds)
    try:
        number = await provider.set_fault(FAULT)
        set_at = time.time()
        await asyncio.wait({loading}, timeout=seconds)
        met = (await provider.faults()).get(number, 0)
        cleared_at = time.time()
    finally:
        await provider.clear_faults()
    return Hang(set_at, cleared_at, met)


async def follow(
    witness: Witness,
    sends: Sequence[Send],
    ask: Callable[[UUID], Awaitable[FinalState]],
    deadline_s: float = SETTLED_DEADLINE_S,
) -> tuple[dict[UUID, FinalState], bool]:
    """Wait until every promised message is delivered or visibly unknown.

    Return the states of those that are not delivered, and whether the wait was not given up. Only
    what the provider was asked for and did not keep is asked about: as long as the others wait,
    their states would say nothing new.
    """
    promised = {send.content: send.message_id for send in sends if send.outcome is Outcome.OK}
    states: dict[UUID, FinalState] = {}
    turns = asyncio.Semaphore(ASKED_AT_ONCE)

    async def look_at(text: str) -> None:
        async with turns:
            states[promised[text]] = await ask(promised[text])

    async def look_at_undelivered() -> None:
        kept = {receipt.text for receipt in witness.all if receipt.kept}
        await asyncio.gather(*map(look_at, promised.keys() - kept))

    async def settled() -> bool:
        await witness.read()
        if promised.keys() - {receipt.text for receipt in witness.all}:
            return False
        await look_at_undelivered()
        return not judge(sends, witness.all, states).lost

    if await comes("every message being delivered or unknown", settled, deadline_s):
        return states, True
    await look_at_undelivered()
    return states, False


def spans_of(sends: Sequence[Send], hang: Hang) -> tuple[Span, Span]:
    """Return two windows of one length, before and from the moment the provider hung."""
    began_at = min(send.invoked_at for send in sends)
    ended_at = min(hang.cleared_at, max(send.invoked_at for send in sends))
    seconds = max(0.0, min(hang.set_at - began_at, ended_at - hang.set_at))
    return Span(hang.set_at - seconds, hang.set_at), Span(hang.set_at, hang.set_at + seconds)


def refusal(load: Load, machine: Machine, hang: Hang, share: float) -> str | None:
    """Say why a load does not count; `share` is how much of the wanted windows there is."""
    if reason := verdict.refusal(load, machine):
        return f"the load generator was the limit: {reason}."
    if not hang.met:
        return "no request met the provider while it hung."
    if share < WINDOW_SHARE_MIN:
        return f"the load had only {share:.0%} of each window."
    return None


def window_of(
    sends: Sequence[Send], receipts: Mapping[str, Sequence[Receipt]], span: Span
) -> Window:
    """Return the figures of what was begun in a span; there must be something."""
    begun = [send for send in sends if span.start <= send.invoked_at < span.end]
    return Window(
        began_at=span.start,
        seconds=span.seconds,
        requests=len(begun),
        acceptance=latency_of([1000 * (send.returned_at - send.invoked_at) for send in begun]),
        delivery=delivery_of(begun, receipts, span.end, 0, None).by_channel,
    )


def drift_of(
    sends: Sequence[Send], receipts: Mapping[str, Sequence[Receipt]], span: Span
) -> dict[str, float]:
    """Return how p95 of each channel's deliveries changed between the halves of a span."""
    middle = span.start + span.seconds / 2
    first = window_of(sends, receipts, Span(span.start, middle)).delivery
    second = window_of(sends, receipts, Span(middle, span.end)).delivery
    return {name: change(first[name], second[name]) for name in first if name in second}


def change(before: Latency, during: Latency) -> float:
    """Return how p95 changed, as a share of what it was."""
    return during.p95_ms / before.p95_ms - 1


def errors_of(sends: Iterable[Send], channel_of: Mapping[str, str]) -> dict[str, int]:
    """Return how many requests of each channel were not answered as accepted."""
    return dict(Counter(channel_of[send.lane] for send in sends if send.outcome is not Outcome.OK))


def lines_of(report: HangReport) -> list[Line]:
    """Hold a report against the promise that only the channel that hung is slow."""
    hung, others, channel = report.hung, report.others, report.channel
    names = [name for name in report.conditions.channels if name != channel]
    errors = sum(report.errors.get(name, 0) for name in names) + report.load.dropped
    accepted = (report.before.acceptance, report.during.acceptance)
    settled, emptied = report.settled_after_s, report.emptied_after_s
    return [
        *(_delivery(report, name) for name in names),
        Line("acceptance p95", _both(*accepted), "", None, _signed(change(*accepted))),
        verdict.none("the others: errors", errors),
        verdict.none("the others: lost", len(others.lost)),
        verdict.none("the others: duplicated", len(others.doubled)),
        verdict.none("the others: reordered", len(others.reordered)),
        Line(f"{channel}: errors", str(report.errors.get(channel, 0)), "", None),
        Line(f"{channel}: delivered", f"{hung.delivered} of {hung.acknowledged}", "", None),
        Line(f"{channel}: visibly UNKNOWN", str(len(hung.open)), "", None),
        verdict.none(f"{channel}: neither of these", len(hung.lost)),
        verdict.none(f"{channel}: sent again", hung.repeated),
        verdict.none(f"{channel}: reordered", len(hung.reordered)),
        Line(f"{channel}: settled after the hang", _within(settled, SETTLED_DEADLINE_S), "", None),
        Line("backlog empty after the load", _within(emptied, EMPTY_DEADLINE_S), "", None),
        *verdict.warm_up(report.warm_up),
    ]


def _delivery(report: HangReport, name: str) -> Line:
    target = f"< {100 * CHANGE_MAX:+.0f} %"
    line = Line(f"{name}: delivery p95", "nothing arrived", target, met=False)
    before, during = report.before.delivery.get(name), report.during.delivery.get(name)
    if before is None or during is None:
        return line
    changed = change(before, during)
    return line._replace(
        value=_both(before, during), met=changed < CHANGE_MAX, ratio=_signed(changed)
    )


def _both(before: Latency, during: Latency) -> str:
    return f"{before.p95_ms:.1f} -> {during.p95_ms:.1f} ms"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f} %"


def _within(seconds: float | None, deadline_s: float) -> str:
    return f"given up after {deadline_s:.0f} s" if seconds is None else f"{seconds:.1f} s"


def passed(report: HangReport) -> bool:
    """Tell whether the promise is kept."""
    return all(line.met is not False for line in lines_of(report))


def warnings(report: HangReport) -> list[str]:
    """Say what makes the comparison doubtful though it counts."""
    found = [
        f"p95 of {name} changed by {drift:+.0%} within the first window, without any hang"
        for name, drift in report.drift.items()
        if name != report.channel and abs(drift) >= CHANGE_MAX
    ]
    if report.before.seconds < WINDOW_CALM_S:
        found.append(
            f"in windows of less than {WINDOW_CALM_S:.0f} s the start of the load, which is slow, "
            "weighs in the first"
        )
    return found + verdict.disturbances(report.load, report.machine)
