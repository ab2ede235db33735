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
)
from services.connectors.breaker import Breaker
from services.connectors.ledger import CLAIM_BOUND_S, Ledger
from services.connectors.results import Results
from services.connectors.rows import Row
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


class Step(NamedTuple):
    """What became of a head row: settled or to be looked at again, and when."""

    settled: bool
    hold_s: float = 0.0


_AGAIN = Step(settled=False)
_LATER = Step(settled=False, hold_s=CLAIM_POLL_S)


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
                lease = http.Lease(self._clock() + http.LEASE_S)
                attempt_id = new_id()
                if not await self._claim(row, tenure, attempt_id):
                    return _LATER
                outcome = await self._send(row, attempt_id, reply_to, lease, breaker)
                return await self._persist(lambda: self._store(row, attempt_id, outcome, breaker))
            finally:
                self.attempting.discard(task)

    async def _respect(self, row: Row) -> Step:
        """Wait for a claim that is not ours; past its bound its outcome is unknown."""
        if row.wait_s > 0 or row.attempt_id is None:
            return Step(settled=False, hold_s=min(row.wait_s, CLAIM_POLL_S))
        reason = Reason("sender_lost", "The sender was lost before it stored an answer.")
        before = replace(row, attempts=row.attempts - 1)
        await self._ambiguous(before, row.attempt_id, reason)
        return _AGAIN

    async def _refuse_account(self, row: Row, tenure: Tenure) -> Step:
        attempt_id = new_id()
        task = self._begin()
        try:
            if not await self._claim(row, tenure, attempt_id):
                return _LATER
            reason = Reason("unknown_account", f"There is no account {row.account!r} any more.")
            await self._persist(lambda: self._results.refused(row, attempt_id, reason))
        finally:
            self.attempting.discard(task)
        return _AGAIN

    async def _claim(self, row: Row, tenure: Tenure, attempt_id: UUID) -> bool:
        if tenure.ended or not tenure.open.is_set():
            return False
        trace.current.set(trace.proceed(row.traceparent))
        try:
            return await self._ledger.claim(row, tenure.epoch, attempt_id)
        except Exception as error:
            if dependency_of(error) is None:
                raise
            # The claim may stand although its answer was lost, and certainly nothing was sent.
            reason = Reason("claim_lost", "The ledger was away when it was to be sent.")
            await self._persist(lambda: self._put_back(row, attempt_id, reason, wait_s=0))
            return False

    async def _send(
        self,
        row: Row,
        attempt_id: UUID,
        reply_to: str | None,
        lease: http.Lease,
        breaker: Breaker,
    ) -> Outcome:
        http.current.set(lease)
        delivery = Delivery(
            account=row.account,
            address=row.address,
            content=row.content,
            reference=str(_reference(row, attempt_id)),
            reply_to_provider_id=reply_to,
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

    async def _store(self, row: Row, attempt_id: UUID, outcome: Outcome, breaker: Breaker) -> Step:
        """Store what an outcome means for the delivery."""
        if isinstance(outcome, Accepted):
            await self._results.accepted(row, attempt_id, outcome.provider_id)
            return Step(settled=True)
        reason = Reason(outcome.code, outcome.detail)
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
