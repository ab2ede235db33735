"""Sends what the ledger holds: one delivery at a time in each lane, lanes side by side."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from msgspec.structs import replace
from prometheus_client import Counter

from services.connectors import http
from services.connectors.base import (
    Accepted,
    Connector,
    Delivery,
    NotWritten,
    Outcome,
    Reference,
    SendError,
    Unanswered,
    Verdict,
    storable,
)
from services.connectors.breaker import Breaker
from services.connectors.ledger import CLAIM_BOUND_S, Ledger
from services.connectors.results import Results
from services.connectors.rows import Claim, Row
from services.connectors.sending import Sending
from services.contracts.ids import new_id
from services.contracts.records import Reason
from services.runtime.telemetry import trace
from services.runtime.telemetry.log import log
from services.runtime.unavailable import dependency_of

ATTEMPTS_MAX = 3
RETRY_BASE_S, RETRY_MAX_S = 0.5, 30.0
CLAIM_POLL_S = 0.1
AWAY_RETRY_S = 0.2
T = TypeVar("T")
_log = log(__name__)
_attempts = Counter(
    "chat4all_delivery_attempts_total",
    "Attempts to send to a provider, by channel and outcome.",
    ["channel", "outcome"],
)


@dataclass(eq=False, slots=True)
class Tenure:
    """An owned partition for as long as it is: its epoch, and whether work may be handed out."""

    partition: int
    epoch: int
    open: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False


@dataclass(eq=False, slots=True)
class Attempt:
    """A send that may begin once its claim stands; `claimed` is set by the intake that makes it."""

    claim: Claim
    lease: http.Lease
    breaker: Breaker
    reply_to: str | None = None
    claimed: asyncio.Future[bool] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Step(NamedTuple):
    """What became of a head row: settled or to be looked at again, and when.

    `refused` says that it could not be claimed.
    """

    settled: bool
    hold_s: float = 0.0
    refused: bool = False


_AGAIN = Step(settled=False)
_LATER = Step(settled=False, hold_s=CLAIM_POLL_S, refused=True)


class Worker:
    """Brings the head row of a lane to its end."""

    def __init__(
        self,
        connector: Connector,
        ledger: Ledger,
        results: Results,
        sending: Sending,
        clock: Callable[[], float],
    ) -> None:
        self._connector = connector
        self._ledger = ledger
        self._results = results
        self._sending = sending
        self._clock = clock
        self._accepted = _attempts.labels(connector.name, "accepted")
        self.attempting: set[asyncio.Task[Any] | None] = set()
        """The tasks that may not be cancelled: between a claim and its stored result."""

    async def work(self, row: Row, tenure: Tenure) -> Step:
        """Do the next thing for a head row.

        A row that is not settled waits, was put back or has moved on: look at the lane again.
        """
        if row.state == "sending":
            return await self._respect(row)
        if row.wait_s > 0:
            return Step(settled=False, hold_s=min(row.wait_s, RETRY_MAX_S))
        await tenure.open.wait()
        if not self._sending.accounts.knows(row.account):
            return await self._refuse_account(row, tenure)
        reply_to = None
        if row.reply_to is not None:
            reply_to = await self._ledger.provider_id_of(row.reply_to, row)
        async with self._sending.turn(row) as breaker:
            task = self._begin()
            try:
                attempt = self._attempt(row, tenure, breaker, reply_to)
                if not await self._claim(attempt.claim, tenure):
                    return _LATER
                return await self._send_and_store(attempt)
            finally:
                self.attempting.discard(task)

    async def admit(self, row: Row, tenure: Tenure) -> Attempt | None:
        """Return an attempt at a row that its intake is about to store and to claim.

        None if it has to wait for anything. Whoever gets one has it carried out, by a task that is
        among those that may not be cancelled.
        """
        if row.reply_to is not None or row.replay_no > 0:
            return None
        if tenure.ended or not tenure.open.is_set():
            return None
        breaker = await self._sending.admit_now(row)
        return None if breaker is None else self._attempt(row, tenure, breaker)

    async def carry_out(self, attempt: Attempt) -> Step:
        """Send a row that was admitted, if its intake could claim it."""
        try:
            if not await self._won(attempt.claim, attempt.claimed):
                return _LATER
            return await self._send_and_store(attempt)
        finally:
            self.attempting.discard(asyncio.current_task())
            self._sending.dismiss(attempt.claim.row)

    def _attempt(
        self, row: Row, tenure: Tenure, breaker: Breaker, reply_to: str | None = None
    ) -> Attempt:
        """Return an attempt whose lease has begun: before the claim, so that it ends first."""
        lease = http.Lease(self._clock() + http.LEASE_S)
        return Attempt(Claim(row, tenure.epoch, new_id()), lease, breaker, reply_to)

    async def _send_and_store(self, attempt: Attempt) -> Step:
        outcome = await self._send(attempt)
        return await self._persist(lambda: self._store(attempt, outcome))

    async def _respect(self, row: Row) -> Step:
        """Wait for a claim that is not ours; past its bound its outcome is unknown."""
        if row.wait_s > 0 or row.attempt_id is None:
            return Step(settled=False, hold_s=min(row.wait_s, CLAIM_POLL_S))
        reason = Reason("sender_lost", "The sender was lost before it stored an answer.")
        before = replace(row, attempts=row.attempts - 1)
        await self._ambiguous(before, row.attempt_id, reason)
        return _AGAIN

    async def _refuse_account(self, row: Row, tenure: Tenure) -> Step:
        claim = Claim(row, tenure.epoch, new_id())
        task = self._begin()
        try:
            if not await self._claim(claim, tenure):
                return _LATER
            reason = Reason("unknown_account", f"There is no account {row.account!r} any more.")
            await self._persist(lambda: self._results.refused(row, claim.attempt_id, reason))
        finally:
            self.attempting.discard(task)
        return _AGAIN

    async def _claim(self, claim: Claim, tenure: Tenure) -> bool:
        if tenure.ended or not tenure.open.is_set():
            return False
        return await self._won(claim, self._ledger.claim(*claim))

    async def _won(self, claim: Claim, answer: Awaitable[bool]) -> bool:
        """Return whether a claim stands; one whose answer was lost is given up."""
        row, attempt_id = claim.row, claim.attempt_id
        trace.current.set(trace.proceed(row.traceparent))
        try:
            return await answer
        except Exception as error:
            if dependency_of(error) is None:
                raise
            # The claim may stand although its answer was lost, and certainly nothing was sent.
            reason = Reason("claim_lost", "The ledger was away when it was to be sent.")
            await self._persist(lambda: self._put_back(row, attempt_id, reason, wait_s=0))
            return False

    async def _send(self, attempt: Attempt) -> Outcome:
        row, lease, breaker = attempt.claim.row, attempt.lease, attempt.breaker
        http.current.set(lease)
        delivery = Delivery(
            account=row.account,
            address=row.address,
            content=row.content,
            reference=str(_reference(row, attempt.claim.attempt_id)),
            reply_to_provider_id=attempt.reply_to,
        )
        outcome, reached = await self._try(delivery, lease)
        if isinstance(outcome, Accepted):
            breaker.succeeded()
            self._accepted.inc()
            return outcome
        if outcome.verdict in (Verdict.RETRYABLE, Verdict.AMBIGUOUS):
            breaker.failed(row.recipient_id, reached=reached)
        else:
            breaker.succeeded()
        self._sending.accounts.note(row.account, outcome)
        _attempts.labels(self._connector.name, outcome.verdict.lower()).inc()
        _log.warning(
            "send_failed",
            message_id=str(row.message_id),
            verdict=outcome.verdict,
            code=outcome.code,
            attempt=row.attempts + 1,
        )
        return outcome

    async def _try(self, delivery: Delivery, lease: http.Lease) -> tuple[Outcome, bool]:
        """Return what the provider made of a delivery, and whether it was there at all."""
        try:
            return await self._connector.send(delivery), True
        except NotWritten as error:
            verdict, code, detail = Verdict.RETRYABLE, "provider_unreachable", str(error)
        except Unanswered as error:
            verdict, code, detail = Verdict.AMBIGUOUS, "no_answer", str(error)
        except Exception as error:  # noqa: BLE001 - a connector's mistake must not stop its lanes
            _log.error("connector_failed", exc_info=error)
            verdict = Verdict.AMBIGUOUS if lease.written else Verdict.FINAL
            code, detail = "connector_failed", type(error).__name__
        return SendError(verdict=verdict, code=code, detail=detail), False

    async def _store(self, attempt: Attempt, outcome: Outcome) -> Step:
        """Store what an outcome means for the delivery."""
        row, attempt_id, breaker = attempt.claim.row, attempt.claim.attempt_id, attempt.breaker
        if isinstance(outcome, Accepted):
            await self._results.accepted(row, attempt_id, outcome.provider_id)
            return Step(settled=True)
        reason = Reason(outcome.code, storable(outcome.detail))
        if outcome.verdict is Verdict.AMBIGUOUS:
            return await self._ambiguous(row, attempt_id, reason, free=breaker.is_open)
        if outcome.verdict is Verdict.ACCOUNT:
            self._sending.accounts.doubt(row.account, outcome)
            return await self._put_back(row, attempt_id, reason, wait_s=0)
        if outcome.verdict is Verdict.THROTTLED:
            wait_s = outcome.retry_after_s or RETRY_BASE_S
            if outcome.whole_account:
                self._sending.quiet(row.account, wait_s)
            return await self._put_back(row, attempt_id, reason, wait_s=wait_s)
        if outcome.verdict is Verdict.RETRYABLE and await self._may_retry(row, breaker):
            ceiling = min(RETRY_MAX_S, RETRY_BASE_S * 4**row.attempts)
            wait_s = random.uniform(0, ceiling)  # noqa: S311 - jitter, not a secret
            return await self._put_back(
                row, attempt_id, reason, wait_s=wait_s, free=breaker.is_open
            )
        await self._results.refused(row, attempt_id, reason)
        return Step(settled=True)

    async def _may_retry(self, row: Row, breaker: Breaker) -> bool:
        """Tell whether an attempt is left, or free because the provider is away."""
        if row.attempts + 1 < ATTEMPTS_MAX:
            return True
        if not breaker.is_open and not await self._sending.accounts.answers(row.account):
            breaker.trip()
        return breaker.is_open

    async def _put_back(
        self, row: Row, attempt_id: UUID, reason: Reason, *, wait_s: float, free: bool = True
    ) -> Step:
        """Let a row that was not processed wait at the head of its lane.

        If a successor went on without it meanwhile its place is lost: then it failed.
        """
        failure = None if free else reason
        if not await self._ledger.put_back(row, attempt_id, wait_s=wait_s, failure=failure):
            await self._results.refused(row, attempt_id, reason)
        return _AGAIN

    async def _ambiguous(
        self, row: Row, attempt_id: UUID, reason: Reason, *, free: bool = False
    ) -> Step:
        """Leave an outcome to evidence, or try again when the caller chose at least once.

        Evidence that comes soon spares the second send.
        """
        if row.at_least_once and (free or row.attempts + 1 < ATTEMPTS_MAX):
            failure = None if free else reason
            await self._ledger.put_back(row, attempt_id, wait_s=CLAIM_BOUND_S, failure=failure)
            return _AGAIN
        await self._results.unanswered(row, attempt_id, reason)
        return Step(settled=True, hold_s=CLAIM_BOUND_S)

    async def _persist(self, store: Callable[[], Awaitable[T]]) -> T:
        """Store a result until it is stored: it is evidence that exists nowhere else."""
        while True:
            try:
                return await store()
            except Exception as error:
                dependency = dependency_of(error)
                if dependency is None:
                    raise
                _log.warning("result_waits", dependency=dependency)
                await asyncio.sleep(AWAY_RETRY_S)

    def _begin(self) -> asyncio.Task[Any] | None:
        task = asyncio.current_task()
        self.attempting.add(task)
        return task


def _reference(row: Row, attempt_id: UUID) -> Reference:
    return Reference(
        message_id=row.message_id,
        recipient_id=row.recipient_id,
        part=row.part,
        attempt_id=attempt_id,
    )
