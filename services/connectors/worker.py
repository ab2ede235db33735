"""Sends what the ledger holds: one delivery at a time in each lane, lanes side by side."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from prometheus_client import Counter

from services.connectors import http
from services.connectors.accounts import Accounts
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
from services.connectors.evidence import status_changed
from services.connectors.ledger import CLAIM_BOUND_S, Ledger
from services.connectors.reporter import Reporter
from services.connectors.rows import Row
from services.contracts.ids import new_id
from services.contracts.topics import STATUS_UPDATES
from services.runtime.kafka.producer import Outgoing, Producer
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


class Worker:
    """Brings the head row of a lane to its end."""

    def __init__(
        self,
        connector: Connector,
        ledger: Ledger,
        reporter: Reporter,
        producer: Producer,
        accounts: Accounts,
        *,
        sends_max: int,
        clock: Callable[[], float],
    ) -> None:
        self._connector = connector
        self._ledger = ledger
        self._reporter = reporter
        self._producer = producer
        self._accounts = accounts
        self._turns = asyncio.Semaphore(sends_max)
        self._clock = clock
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
        await self._accounts.usable(row.account)
        reply_to = None
        if row.reply_to is not None:
            reply_to = await self._ledger.provider_id_of(row.reply_to, row.recipient_id)
        async with self._turns:
            await tenure.open.wait()
            if tenure.ended:
                return Step(settled=False)
            task = asyncio.current_task()
            self.attempting.add(task)
            try:
                return await self._attempt(row, tenure, reply_to)
            finally:
                self.attempting.discard(task)

    async def _respect(self, row: Row) -> Step:
        """Wait for a claim that is not ours; past its bound its outcome is unknown."""
        if row.wait_s > 0 or row.attempt_id is None:
            return Step(settled=False, hold_s=min(row.wait_s, CLAIM_POLL_S))
        report = await self._ledger.unanswered(
            row, row.attempt_id, "sender_lost", "The sender was lost before it stored an answer."
        )
        if report is not None:
            await self._reporter.put(report)
        return Step(settled=True)

    async def _attempt(self, row: Row, tenure: Tenure, reply_to: str | None) -> Step:
        attempt_id = new_id()
        trace.current.set(trace.proceed(row.traceparent))
        lease = http.Lease(self._clock() + http.LEASE_S)
        try:
            if not await self._ledger.claim(row, tenure.epoch, attempt_id):
                return Step(settled=False, hold_s=CLAIM_POLL_S)
        except Exception as error:
            if dependency_of(error) is None:
                raise
            # The claim may stand although its answer was lost, and certainly nothing was sent.
            await self._persist(lambda: self._ledger.put_back(row, attempt_id, wait_s=0, free=True))
            return Step(settled=False)
        http.current.set(lease)
        delivery = Delivery(
            account=row.account,
            address=row.address,
            content=row.content,
            reference=str(_reference(row, attempt_id)),
            reply_to_provider_id=reply_to,
        )
        outcome = await self._send(delivery, lease)
        _attempts.labels(self._connector.name, _label(outcome)).inc()
        if isinstance(outcome, Accepted):
            await self._persist(lambda: self._accept(row, attempt_id, outcome))
            return Step(settled=True)
        _log.warning(
            "send_failed",
            message_id=str(row.message_id),
            verdict=outcome.verdict,
            code=outcome.code,
            attempt=row.attempts + 1,
        )
        return await self._persist(lambda: self._decide(row, attempt_id, outcome))

    async def _accept(self, row: Row, attempt_id: UUID, outcome: Accepted) -> None:
        report, early = await self._ledger.accepted(row, attempt_id, outcome.provider_id)
        await self._producer.publish(
            [
                Outgoing(
                    STATUS_UPDATES,
                    str(row.conversation_id),
                    status_changed(self._connector.name, row, status),
                )
                for status in early
            ]
        )
        if report is not None:
            await self._reporter.put(report)

    async def _decide(self, row: Row, attempt_id: UUID, error: SendError) -> Step:
        """Store what an error means for the delivery."""
        again = Step(settled=False)
        if error.verdict is Verdict.AMBIGUOUS:
            report = await self._ledger.unanswered(row, attempt_id, error.code, error.detail)
            if report is not None:
                await self._reporter.put(report)
            return Step(settled=True, hold_s=CLAIM_BOUND_S)
        if error.verdict is Verdict.ACCOUNT:
            self._accounts.doubt(row.account, error)
            await self._ledger.put_back(row, attempt_id, wait_s=0, free=True)
            return again
        if error.verdict is Verdict.THROTTLED:
            wait_s = error.retry_after_s or RETRY_BASE_S
            await self._ledger.put_back(row, attempt_id, wait_s=wait_s, free=True)
            return again
        if error.verdict is Verdict.RETRYABLE and row.attempts + 1 < ATTEMPTS_MAX:
            ceiling = min(RETRY_MAX_S, RETRY_BASE_S * 4**row.attempts)
            wait_s = random.uniform(0, ceiling)  # noqa: S311 - jitter, not a secret
            await self._ledger.put_back(row, attempt_id, wait_s=wait_s, free=False)
            return again
        report = await self._ledger.refused(row, attempt_id, error.code, error.detail)
        if report is not None:
            await self._reporter.put(report)
        return Step(settled=True)

    async def _send(self, delivery: Delivery, lease: http.Lease) -> Outcome:
        try:
            return await self._connector.send(delivery)
        except NotWritten as reason:
            return SendError(
                verdict=Verdict.RETRYABLE, code="provider_unreachable", detail=str(reason)
            )
        except Unanswered as reason:
            return SendError(verdict=Verdict.AMBIGUOUS, code="no_answer", detail=str(reason))
        except Exception as error:  # noqa: BLE001 - a connector's mistake must not stop its lanes
            _log.error("connector_failed", exc_info=error)
            verdict = Verdict.AMBIGUOUS if lease.written else Verdict.FINAL
            return SendError(verdict=verdict, code="connector_failed", detail=type(error).__name__)

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


def _reference(row: Row, attempt_id: UUID) -> Reference:
    return Reference(
        message_id=row.message_id,
        recipient_id=row.recipient_id,
        part=row.part,
        attempt_id=attempt_id,
    )


def _label(outcome: Outcome) -> str:
    return "accepted" if isinstance(outcome, Accepted) else outcome.verdict.lower()
