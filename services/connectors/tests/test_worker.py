"""The worker: what each outcome of an attempt leads to, and what no interruption may leave."""

import asyncio
from typing import Any, NamedTuple, cast
from uuid import uuid4

import pytest

from services.connectors import http, worker
from services.connectors.base import Accepted, NotWritten, Outcome, SendError, Unanswered, Verdict
from services.connectors.ledger import CLAIM_BOUND_S
from services.connectors.rows import Row
from services.connectors.sending import Sending
from services.connectors.tests import doubles
from services.connectors.tests.doubles import row
from services.connectors.worker import ATTEMPTS_MAX, RETRY_BASE_S, Attempt, Step, Tenure, Worker
from services.contracts.ids import new_id
from services.runtime.unavailable import Unavailable

AWAY = Unavailable("postgres")


class Site:
    """A worker with doubles of all that surrounds it; `by_intake` says who claims what it may."""

    def __init__(self, *, by_intake: bool) -> None:
        self.by_intake = by_intake
        clock = asyncio.get_running_loop().time
        self.connector = doubles.Connector("main", "second")
        self.ledger, self.results = doubles.Ledger(), doubles.Results()
        self.accounts = doubles.Accounts("main", "second")
        self.sending = Sending(
            cast("Any", self.connector),
            cast("Any", self.accounts),
            limited=False,
            sends_max=4,
            clock=clock,
        )
        self.worker = Worker(
            cast("Any", self.connector),
            cast("Any", self.ledger),
            cast("Any", self.results),
            self.sending,
            clock,
        )
        self.tenure = Tenure(3, epoch=7)
        self.tenure.open.set()

    async def work(self, row: Row, *script: Any) -> Step:
        """Let the provider do something with a row."""
        self.connector.script += script
        if self.by_intake and row.state == "pending" and row.wait_s == 0:
            attempt = await self.worker.admit(row, self.tenure)
            if attempt is not None:
                return await self._carry_out(attempt)
        return await self.worker.work(row, self.tenure)

    async def _carry_out(self, attempt: Attempt) -> Step:
        self.worker.attempting.add(asyncio.current_task())
        try:
            attempt.claimed.set_result(await self.ledger.claim(*attempt.claim))
        except Unavailable as error:
            attempt.claimed.set_exception(error)
        return await self.worker.carry_out(attempt)


@pytest.fixture(params=["the worker", "the intake"])
async def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A worker whose waits for what is away are short; rows are claimed by it or before it."""
    monkeypatch.setattr(worker, "AWAY_RETRY_S", 0.001)
    return Site(by_intake=request.param == "the intake")


def error(verdict: Verdict, **more: Any) -> SendError:
    """Return an error of the provider."""
    return SendError(verdict=verdict, code="code", detail="Detail.", **more)


class Case(NamedTuple):
    """What the provider does, and what is stored of it: a result, or the row back."""

    outcome: Outcome | Exception
    stored: tuple[str, str] | None = None
    failure: str | None = None
    wait_s: tuple[float, float] | None = None
    row: dict[str, Any] = {}  # noqa: RUF012 - never changed


LAST = {"attempts": ATTEMPTS_MAX - 1}
CASES = {
    "accepted": Case(Accepted("p1"), ("accepted", "p1")),
    "final": Case(error(Verdict.FINAL), ("refused", "code")),
    "final, with a NUL": Case(
        SendError(verdict=Verdict.FINAL, code="code", detail="a\0b"), ("refused", "code")
    ),
    "retryable": Case(error(Verdict.RETRYABLE), failure="code", wait_s=(0, RETRY_BASE_S)),
    "the last of three": Case(error(Verdict.RETRYABLE), ("refused", "code"), row=LAST),
    "not written": Case(NotWritten("refused"), failure="provider_unreachable", wait_s=(0, 0.5)),
    "throttled": Case(error(Verdict.THROTTLED, retry_after_s=17.0), wait_s=(17, 17), row=LAST),
    "throttled with no time": Case(error(Verdict.THROTTLED), wait_s=(0.5, 0.5)),
    "account": Case(error(Verdict.ACCOUNT), wait_s=(0, 0), row=LAST),
    "ambiguous": Case(error(Verdict.AMBIGUOUS), ("unanswered", "code")),
    "unanswered": Case(Unanswered("reset"), ("unanswered", "no_answer")),
    "ambiguous, at least once": Case(
        error(Verdict.AMBIGUOUS),
        failure="code",
        wait_s=(CLAIM_BOUND_S, CLAIM_BOUND_S),
        row={"at_least_once": True, "attempts": ATTEMPTS_MAX - 2},
    ),
    "ambiguous to the last, at least once": Case(
        error(Verdict.AMBIGUOUS), ("unanswered", "code"), row={"at_least_once": True, **LAST}
    ),
    "a connector's mistake": Case(ValueError("mistake"), ("refused", "connector_failed")),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_each_outcome_is_stored_as_what_it_means(site: Site, case: Case) -> None:
    """One claim, one send, and one result or one row that goes back."""
    step = await site.work(row(**case.row), case.outcome)
    ((_, epoch, attempt_id),) = site.ledger.claimed
    assert epoch == 7
    assert str(attempt_id) in site.connector.sent[0].reference
    assert len(site.accounts.noted) == (not isinstance(case.outcome, Accepted))
    if case.stored is not None:
        assert site.results.stored == [(case.stored[0], attempt_id, case.stored[1])]
        assert not site.ledger.back
        held = case.stored[0] == "unanswered"
        assert step == Step(settled=True, hold_s=CLAIM_BOUND_S if held else 0)
        return
    assert not site.results.stored
    assert not step.settled
    (back,) = site.ledger.back
    assert back.attempt_id == attempt_id
    assert (back.failure and back.failure.code) == case.failure
    assert case.wait_s is not None
    assert case.wait_s[0] <= back.wait_s <= case.wait_s[1]


async def test_a_mistake_after_the_write_is_ambiguous(site: Site) -> None:
    """Whatever broke in the connector: once the request is written it may have had effect."""

    async def written() -> Exception:
        lease = http.current.get()
        assert lease is not None
        lease.written = True
        return ValueError("mistake")

    await site.work(row(), written)
    assert [kind for kind, _, _ in site.results.stored] == ["unanswered"]


async def test_a_reply_names_what_it_answers(site: Site) -> None:
    """The provider's name of the other message goes along."""
    other = uuid4()
    await site.work(row(reply_to=other, account="second"))
    assert site.connector.sent[0].reply_to_provider_id == f"second/{other}"


@pytest.mark.parametrize("answering", [True, False])
async def test_the_last_attempt_at_a_sick_provider_is_free(site: Site, answering: bool) -> None:  # noqa: FBT001
    """A delivery fails for good only when the provider is there to ask."""
    site.accounts.answering = answering
    await site.work(row(**LAST), error(Verdict.RETRYABLE))
    assert bool(site.results.stored) == answering
    assert site.sending.breaker("main").is_open != answering
    assert [back.failure for back in site.ledger.back] == ([] if answering else [None])


async def test_while_the_circuit_is_open_no_attempt_is_consumed(site: Site) -> None:
    """Attempts that were under way when it opened cost nothing, ambiguous ones alike."""
    site.sending.breaker("main").trip()
    site.sending.breaker("main")._reopens_at = 0
    await site.work(row(**LAST), error(Verdict.RETRYABLE))
    site.sending.breaker("main")._reopens_at = 0
    await site.work(row(at_least_once=True, **LAST), error(Verdict.AMBIGUOUS))
    assert [back.failure for back in site.ledger.back] == [None, None]
    assert not site.results.stored


async def test_a_throttle_of_the_account_quiets_it(site: Site) -> None:
    """Another delivery of the account waits; one of another account does not."""
    throttle = error(Verdict.THROTTLED, retry_after_s=60.0, whole_account=True)
    await site.work(row(), throttle)
    waiting = asyncio.create_task(site.work(row()))
    async with asyncio.timeout(5):
        assert (await site.work(row(account="second"))).settled
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert len(site.connector.sent) == 2


async def test_a_refused_account_keeps_its_messages(site: Site) -> None:
    """Nothing is claimed until it is accepted again; then the same delivery goes out."""
    delivery = row()
    await site.work(delivery, error(Verdict.ACCOUNT))
    waiting = asyncio.create_task(site.work(delivery))
    async with asyncio.timeout(5):
        assert (await site.work(row(account="second"))).settled
    assert len(site.ledger.claimed) == 2
    site.accounts.good["main"].set()
    async with asyncio.timeout(5):
        assert (await waiting).settled


async def test_an_account_that_is_gone_fails_its_messages(site: Site) -> None:
    """They are dead letters, and nothing was sent."""
    await site.work(row(account="gone"))
    assert [(kind, value) for kind, _, value in site.results.stored] == [
        ("refused", "unknown_account")
    ]
    assert not site.connector.sent


@pytest.mark.parametrize("account", ["main", "gone"])
async def test_a_lost_claim_sends_nothing_and_is_not_asked_for_at_once(
    site: Site, account: str
) -> None:
    """Who lost the partition looks again later."""
    site.ledger.claims = [False]
    step = await site.work(row(account=account))
    assert not step.settled
    assert step.hold_s > 0
    assert site.connector.sent == []
    assert site.results.stored == site.ledger.back == []


async def test_nothing_is_claimed_in_a_partition_that_ended(site: Site) -> None:
    """Not even when the delivery was let through before."""
    site.tenure.ended = True
    assert not (await site.work(row())).settled
    assert not site.ledger.claimed


async def test_a_claim_without_an_answer_is_put_back(site: Site) -> None:
    """It may stand, and certainly nothing was sent."""
    site.ledger.claims = [AWAY]
    assert not (await site.work(row())).settled
    (back,) = site.ledger.back
    assert (back.wait_s, back.failure) == (0, None)
    assert not site.connector.sent


async def test_a_result_is_stored_until_it_is_stored(site: Site) -> None:
    """It exists nowhere else, so the ledger's absence is waited out."""
    site.results.errors = [AWAY, AWAY, OSError("reset")]
    assert (await site.work(row())).settled
    assert [kind for kind, _, _ in site.results.stored] == ["accepted"]
    assert len(site.connector.sent) == 1


@pytest.mark.parametrize("verdict", [Verdict.RETRYABLE, Verdict.THROTTLED, Verdict.ACCOUNT])
async def test_what_lost_its_place_failed(site: Site, verdict: Verdict) -> None:
    """Not processed, but a successor went on without it: it may not go in between again."""
    site.ledger.stands = False
    await site.work(row(), error(verdict))
    assert [(kind, value) for kind, _, value in site.results.stored] == [("refused", "code")]


async def test_a_foreign_claim_is_respected(site: Site) -> None:
    """While it can be written it is left alone; then its outcome is unknown."""
    attempt_id = new_id()
    foreign = row(state="sending", attempts=1, attempt_id=attempt_id, wait_s=2.0)
    step = await site.work(foreign)
    assert not step.settled
    assert 0 < step.hold_s <= 2
    assert site.results.stored == site.ledger.back == []
    await site.work(row(state="sending", attempts=1, attempt_id=attempt_id))
    assert site.results.stored == [("unanswered", attempt_id, "sender_lost")]


@pytest.mark.parametrize(("attempts", "again"), [(1, True), (2, True), (3, False)])
async def test_a_foreign_claim_is_tried_again_at_least_once(
    site: Site,
    attempts: int,
    again: bool,  # noqa: FBT001
) -> None:
    """The claim that was lost is one of the three attempts, not two."""
    lost = row(state="sending", attempts=attempts, attempt_id=new_id(), at_least_once=True)
    await site.work(lost)
    assert len(site.ledger.back) == again
    assert len(site.results.stored) == (not again)


async def test_a_row_that_waits_is_left_alone(site: Site) -> None:
    """Its time is told to the lane."""
    assert await site.work(row(wait_s=5.0)) == Step(settled=False, hold_s=5.0)
    assert not site.ledger.claimed


async def test_what_is_cancelled_before_its_claim_leaves_nothing(site: Site) -> None:
    """A lane that ends while it waits has no claim, no turn and no probe."""
    site.accounts.good["main"].clear()
    waits = [asyncio.create_task(site.work(row())) for _ in range(9)]
    await asyncio.sleep(0)
    assert not site.worker.attempting
    for task in waits:
        task.cancel()
    await asyncio.wait(waits)
    site.accounts.good["main"].set()
    async with asyncio.timeout(5):
        assert (await site.work(row())).settled
    assert len(site.ledger.claimed) == 1


async def test_between_claim_and_result_a_task_says_so(site: Site) -> None:
    """Who drains must know whom not to cancel."""
    during: list[bool] = []

    async def look() -> Outcome:
        during.append(asyncio.current_task() in site.worker.attempting)
        return Accepted("p1")

    await site.work(row(), look)
    assert during == [True]
    assert not site.worker.attempting
