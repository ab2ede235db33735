"""A hang is compared by windows, and what it did to its own channel is seen to the end."""

import asyncio
import io
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace
from rich.console import Console

from chaos.adapters.provider import Provider
from chaos.checkers.deliveries import Judgement, judge
from chaos.history import FinalState, Outcome, Receipt, Send
from scripts.bench import deliveries, hang, tables, verdict
from scripts.bench.conditions import Unfit
from scripts.bench.deliveries import Witness
from scripts.bench.figures import Report
from scripts.bench.hang import Hang, HangReport, Window
from scripts.bench.tests.conftest import latency, use

RUN = "run"
UNKNOWN = FinalState(status="UNKNOWN")
GIVEN_UP = FinalState(status="FAILED", reason="outcome_unknown")


def send(sequence: int, outcome: Outcome = Outcome.OK, answered_after_s: float = 0.01) -> Send:
    """Return a send that began with its sequence, in seconds."""
    return Send(
        message_id=UUID(int=sequence),
        lane="a",
        sequence=sequence,
        content=f"{RUN} {sequence}",
        invoked_at=float(sequence),
        returned_at=sequence + answered_after_s,
        outcome=outcome,
        answer="",
    )


def receipt(seq: int, sequence: int, after_s: float = 0.1, *, kept: bool = True) -> Receipt:
    """Return a receipt of a send, so long after it began."""
    at, text = sequence + after_s, f"{RUN} {sequence}"
    return Receipt(seq=seq, received_at=at, answered_at=at, to="1", text=text, kept=kept)


def judgement(**changes: Any) -> Judgement:
    """Return a judgement of 100 messages that all arrived, but for the changes."""
    clean: dict[str, Any] = {"open": [], "lost": [], "doubled": [], "reordered": []}
    clean |= {"acknowledged": 100, "delivered": 100, "unexpected": []}
    return Judgement(**(clean | changes))


@pytest.fixture
def unmoved(good: Report) -> HangReport:
    """Return a report of three channels of which one hung, and the others did not notice."""
    fine = latency(15.0, 100.0, 150.0, 200.0)
    window = Window(
        began_at=0.0,
        seconds=59.9,
        requests=11_980,
        acceptance=latency(5.0, 10.0, 20.0, 40.0),
        delivery={"PAGER": fine, "FAX": fine, "TELEX": fine},
    )
    return HangReport(
        at=good.at,
        conditions=replace(good.conditions, channels=["PAGER", "FAX", "TELEX"]),
        channel="PAGER",
        warm_up=good.trial,
        met=130,
        load=good.trial.load,
        machine=good.trial.machine,
        before=window,
        during=replace(window, delivery={**window.delivery, "PAGER": latency(1, 4e4, 5e4, 6e4)}),
        drift={"PAGER": 0.01, "FAX": 0.19, "TELEX": -0.19},
        errors={"PAGER": 3},
        hung=judgement(delivered=98, open=[UUID(int=1), UUID(int=2)]),
        others=judgement(),
        settled_after_s=31.0,
        emptied_after_s=33.0,
    )


def missed(report: HangReport) -> list[str]:
    """Return the targets that are not met."""
    return [line.name for line in hang.lines_of(report) if line.met is False]


def with_p95(window: Window, channel: str, p95_ms: float) -> Window:
    """Return a window in which a channel's deliveries took so long."""
    return replace(
        window, delivery={**window.delivery, channel: latency(15.0, p95_ms, p95_ms, p95_ms)}
    )


def test_windows_are_of_one_length_and_within_the_load() -> None:
    """They meet where the fault was set; what is over of the longer one belongs to neither."""
    sends = [send(n) for n in range(5, 31)]
    before, during = hang.spans_of(sends, Hang(set_at=20.0, cleared_at=29.5, met=1))
    assert (before, during) == ((10.5, 20.0), (20.0, 29.5))
    before, during = hang.spans_of(sends, Hang(set_at=12.0, cleared_at=29.5, met=1))
    assert (before, during) == ((5.0, 12.0), (12.0, 19.0))


def test_no_window_outlasts_the_load() -> None:
    """Time in which the fault stood but nothing was sent any more is no part of a window."""
    sends = [send(n) for n in range(21)]
    before, during = hang.spans_of(sends, Hang(set_at=12.0, cleared_at=40.0, met=1))
    assert (before, during) == ((4.0, 12.0), (12.0, 20.0))
    before, during = hang.spans_of(sends, Hang(set_at=25.0, cleared_at=40.0, met=1))
    assert before.seconds == during.seconds == 0


def test_a_message_counts_where_it_was_begun() -> None:
    """A delivery belongs to the window of its request, however late it arrives."""
    sends = [send(n, answered_after_s=0.02 if n < 4 else 0.05) for n in range(8)]
    receipts = {
        "FAX": [receipt(1, 1, 0.2), receipt(2, 3, 3.0)],
        "TELEX": [receipt(1, 4, 0.5), receipt(2, 6, 0.6)],
    }
    first = hang.window_of(sends, receipts, hang.Span(0.0, 4.0))
    second = hang.window_of(sends, receipts, hang.Span(4.0, 8.0))
    assert (first.requests, second.requests) == (4, 4)
    assert first.delivery.keys() == {"FAX"}
    assert first.delivery["FAX"].max_ms == pytest.approx(3000)
    assert second.delivery["TELEX"].p50_ms == pytest.approx(500)
    assert first.acceptance.p95_ms == pytest.approx(20)
    assert second.acceptance.p95_ms == pytest.approx(50)


def test_drift_is_seen_between_the_halves() -> None:
    """What changes without a fault is told by the halves of one window."""
    sends = [send(n) for n in range(4)]
    receipts = {"FAX": [receipt(n, n, 0.1 if n < 2 else 0.15) for n in range(4)], "TELEX": []}
    assert hang.drift_of(sends, receipts, hang.Span(0.0, 4.0)) == {"FAX": pytest.approx(0.5)}


def test_errors_are_counted_by_channel() -> None:
    """Whatever was not accepted is an error of its conversation's channel."""
    sends = [send(0), send(1, Outcome.FAIL), send(2, Outcome.INFO)]
    assert hang.errors_of(sends, {"a": "FAX"}) == {"FAX": 2}


def test_others_that_do_not_notice_pass(unmoved: HangReport) -> None:
    """The channel that hung may be slow, have errors and messages whose outcome is unknown."""
    assert missed(unmoved) == []
    assert hang.passed(unmoved)
    assert hang.warnings(unmoved) == []


def test_a_warm_up_that_breaks_a_promise_is_missed(unmoved: HangReport) -> None:
    """What was lost before it counted was promised as well; without a warm-up nothing was."""
    assert unmoved.warm_up is not None
    delivery = replace(unmoved.warm_up.delivery, lost=1)
    report = replace(unmoved, warm_up=replace(unmoved.warm_up, delivery=delivery))
    assert missed(report) == ["warm-up: lost, duplicated or reordered"]
    assert hang.passed(replace(unmoved, warm_up=None))


@pytest.mark.parametrize(
    ("p95_ms", "names"),
    [(119.9, []), (120.1, ["TELEX: delivery p95"]), (1e4, ["TELEX: delivery p95"]), (10.0, [])],
)
def test_p95_may_rise_by_less_than_a_fifth(
    unmoved: HangReport, p95_ms: float, names: list[str]
) -> None:
    """Each other channel is held to it by itself; to be faster is fine."""
    report = replace(unmoved, during=with_p95(unmoved.during, "TELEX", p95_ms))
    assert missed(report) == names
    assert hang.passed(report) is (names == [])


def test_a_channel_of_which_nothing_arrives_is_missed(unmoved: HangReport) -> None:
    """Without deliveries in a window there is nothing that could be as fast."""
    for name in ("before", "during"):
        window: Window = getattr(unmoved, name)
        left = {"PAGER": window.delivery["PAGER"], "FAX": window.delivery["FAX"]}
        report = replace(unmoved, **{name: replace(window, delivery=left)})
        assert missed(report) == ["TELEX: delivery p95"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"others": judgement(lost=[UUID(int=1)])}, "the others: lost"),
        ({"others": judgement(doubled=["x"])}, "the others: duplicated"),
        ({"others": judgement(reordered=[("a", 1, 2)])}, "the others: reordered"),
        ({"errors": {"PAGER": 3, "FAX": 1}}, "the others: errors"),
        ({"hung": judgement(lost=[UUID(int=1)])}, "PAGER: neither of these"),
        ({"hung": judgement(repeated=1)}, "PAGER: sent again"),
        ({"hung": judgement(reordered=[("a", 1, 2)])}, "PAGER: reordered"),
    ],
)
def test_each_broken_promise_is_missed(
    unmoved: HangReport, changes: dict[str, Any], name: str
) -> None:
    """One message is enough, and no other target is missed with it."""
    assert missed(replace(unmoved, **changes)) == [name]


def test_requests_never_begun_are_errors_of_all(unmoved: HangReport) -> None:
    """What k6 dropped behind slow answers is counted though nobody knows its channel."""
    assert missed(replace(unmoved, load=replace(unmoved.load, dropped=1))) == ["the others: errors"]


def test_what_does_not_count_is_refused(unmoved: HangReport) -> None:
    """The generator as limit, a hang that nobody met, windows that are too short."""
    load, machine, met = unmoved.load, unmoved.machine, Hang(0.0, 60.0, 1)
    assert hang.refusal(load, machine, met, 0.99) is None
    late = replace(load, late_p99_ms=verdict.LATE_MAX_MS + 1)
    assert "load generator" in (hang.refusal(late, machine, met, 0.99) or "")
    assert "no request met" in (hang.refusal(load, machine, Hang(0.0, 60.0, 0), 0.99) or "")
    assert "only 80%" in (hang.refusal(load, machine, met, 0.8) or "")


def test_what_makes_it_doubtful_is_told(unmoved: HangReport) -> None:
    """Figures that wander by themselves, short windows, strangers on the machine."""
    (warning,) = hang.warnings(replace(unmoved, drift={"PAGER": 9.0, "FAX": -0.2}))
    assert warning.startswith("p95 of FAX changed by -20%")
    (warning,) = hang.warnings(replace(unmoved, before=replace(unmoved.before, seconds=29.9)))
    assert "the start of the load" in warning
    busy = replace(unmoved.machine, cpu_percent=160.0, uses=[use("k6", 100.0, 100.0)])
    (warning,) = hang.warnings(replace(unmoved, machine=busy))
    assert "no part of this" in warning


def test_a_load_needs_the_channel_and_another() -> None:
    """Without one to hang or one to compare nothing is begun."""
    hang.require_others(["PAGER", "FAX"], "FAX")
    with pytest.raises(Unfit, match="TELEX is not part"):
        hang.require_others(["PAGER", "FAX"], "TELEX")
    with pytest.raises(Unfit, match="no channel beside FAX"):
        hang.require_others(["FAX"], "FAX")


def test_a_report_is_shown_and_survives_its_file(unmoved: HangReport) -> None:
    """The change of each other channel, both windows and the verdict are there."""
    console = Console(file=io.StringIO(), width=100, highlight=False)
    tables.show_hang(console, replace(unmoved, during=with_p95(unmoved.during, "FAX", 131.0)))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for words in ("2 x 59.9 s", "130 requests", "100.0 -> 131.0 ms", "+31.0 %", "Not all targets"):
        assert words in text
    assert [" FAX" in line for line in text.splitlines() if "MISSED" in line] == [True]
    rows = [line.replace("│", " ").split() for line in text.splitlines()]
    assert ["FAX", "during", "the", "hang", "15.0", "131.0", "131.0", "131.0"] in rows
    assert msgspec.json.decode(msgspec.json.encode(unmoved), type=HangReport) == unmoved


class FakeProvider(Provider):
    """A provider that notes what it is told, and whose receipts a test writes."""

    def __init__(self, receipts: list[Receipt] | None = None) -> None:
        self.told: list[object] = []
        self.kept = receipts or []

    async def receipts(self, after: int = 0, to: str | None = None) -> list[Receipt]:
        """Return the receipts after a sequence number."""
        assert to is None
        return [one for one in self.kept if one.seq > after]

    async def set_fault(self, fault: object) -> int:
        """Note a fault."""
        self.told.append(fault)
        return 7

    async def faults(self) -> dict[int, int]:
        """Tell that the fault happened."""
        return {7: 5}

    async def clear_faults(self) -> None:
        """Note that all is well again."""
        self.told.append("cleared")


async def broken_into(provider: Provider, load: Coroutine[Any, Any, object]) -> Hang:
    """Let a provider hang in a load of which nothing is seen until it ends."""
    loading = asyncio.create_task(load)
    try:
        return await hang.break_in(provider, loading, lambda: False, 60.0)
    finally:
        await asyncio.gather(loading, return_exceptions=True)


async def test_the_provider_hangs_for_its_window() -> None:
    """It hangs once the first window is over, and is well again after the second."""
    provider, over = FakeProvider(), asyncio.Event()
    loading = asyncio.create_task(over.wait())
    before = asyncio.get_running_loop().time()
    found = await hang.break_in(provider, loading, lambda: True, 0.05)
    assert asyncio.get_running_loop().time() - before >= 0.1
    assert found.cleared_at - found.set_at >= 0.04
    assert found.met == 5
    assert provider.told == [hang.FAULT, "cleared"]
    over.set()
    await loading


async def test_a_load_that_fails_ends_the_hang() -> None:
    """A load that is over at once is not waited for, and leaves no fault."""

    async def fail() -> None:
        raise OSError

    provider = FakeProvider()
    async with asyncio.timeout(5):
        found = await broken_into(provider, fail())
    assert found.cleared_at - found.set_at < 5
    assert provider.told[-1] == "cleared"


async def test_an_interrupted_hang_leaves_no_fault() -> None:
    """Who is cancelled while the provider hangs takes the fault back."""
    provider = FakeProvider()
    never = asyncio.create_task(asyncio.Event().wait())
    breaking = asyncio.create_task(hang.break_in(provider, never, lambda: True, 0.01))
    while not provider.told:
        await asyncio.sleep(0)
    breaking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await breaking
    never.cancel()
    assert provider.told == [hang.FAULT, "cleared"]


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the provider's receipts more often than a benchmark does."""
    monkeypatch.setattr(deliveries, "POLL_S", 0.01)


async def followed(
    sends: list[Send],
    provider: FakeProvider,
    answer: Callable[[UUID], FinalState],
    deadline_s: float = 5.0,
) -> tuple[list[UUID], set[UUID], bool]:
    """Follow sends to their end; return what was lost, whose state was asked, and if it ended."""
    asked: set[UUID] = set()

    async def ask(message_id: UUID) -> FinalState:
        asked.add(message_id)
        return answer(message_id)

    witness = Witness({"PAGER": provider}, RUN, {"PAGER": 0})
    states, settled = await hang.follow(witness, sends, ask, deadline_s=deadline_s)
    return judge(sends, witness.all, states).lost, asked, settled


async def test_only_what_was_not_kept_is_asked_about() -> None:
    """What was delivered needs no state; what hung is visibly unknown, or given up as such."""
    receipts = [receipt(1, 0, kept=False), receipt(2, 1, kept=False), receipt(3, 2)]
    refused = send(3, Outcome.FAIL)
    lost, asked, settled = await followed(
        [send(0), send(1), send(2), refused],
        FakeProvider(receipts),
        lambda message: GIVEN_UP if message.int else UNKNOWN,
    )
    assert (lost, settled) == ([], True)
    assert asked == {UUID(int=0), UUID(int=1)}


async def test_messages_that_wait_are_waited_for() -> None:
    """As long as one did not reach the provider nothing is asked, and the wait goes on."""
    provider = FakeProvider([receipt(1, 0, kept=False)])
    arriving = asyncio.get_running_loop().call_later(0.05, provider.kept.append, receipt(2, 1))
    found = await followed([send(0), send(1)], provider, lambda _: UNKNOWN)
    arriving.cancel()
    assert found == ([], {UUID(int=0)}, True)


@pytest.mark.parametrize("status", ["PENDING", "SENT", "FAILED"])
async def test_an_undelivered_message_with_another_state_is_lost(status: str) -> None:
    """A status that hides that the outcome is open is no excuse, and the wait is given up."""
    provider = FakeProvider([receipt(1, 0, kept=False)])
    state = FinalState(status=status)
    lost, _, settled = await followed([send(0)], provider, lambda _: state, deadline_s=0.05)
    assert (lost, settled) == ([UUID(int=0)], False)


async def test_what_never_reached_the_provider_is_asked_about_in_the_end() -> None:
    """A message without any receipt may be visibly unknown too."""
    lost, asked, settled = await followed(
        [send(0)], FakeProvider(), lambda _: UNKNOWN, deadline_s=0.05
    )
    assert (lost, asked, settled) == ([], {UUID(int=0)}, False)
