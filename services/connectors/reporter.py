"""Tells the users' side what the ledger knows: publishes it, then marks it as told."""

import asyncio
from collections.abc import Iterator, Sequence

from services.connectors.evidence import Evidence
from services.connectors.outcomes import Outcomes
from services.connectors.rows import Report, Settled
from services.contracts.records import StatusChanged
from services.contracts.topics import STATUS_UPDATES
from services.runtime.kafka.producer import Outgoing, Producer
from services.runtime.telemetry.log import log
from services.runtime.unavailable import dependency_of

BATCH_MAX = 200
BACKLOG_MAX = 10_000
PACE_S = 0.4
"""Reports that come this close together share a write."""
RETRY_S = 0.5
_log = log(__name__)


class Reporter:
    """Publishes what results led to, in the order given: reports, and statuses that were early.

    A report is marked last, so what a crash leaves is found by the next owner.
    """

    def __init__(
        self, outcomes: Outcomes, evidence: Evidence, producer: Producer, channel: str
    ) -> None:
        self._outcomes = outcomes
        self._evidence = evidence
        self._producer = producer
        self._channel = channel
        self._waiting: asyncio.Queue[Settled] = asyncio.Queue(BACKLOG_MAX)
        self.idle = True
        """Whether all that was handed over is told."""

    async def put(self, settled: Settled) -> None:
        """Hand over what a result led to; waits while too much is waiting."""
        self.idle = False
        await self._waiting.put(settled)

    async def run(self) -> None:
        """Publish what is handed over, for ever."""
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < BATCH_MAX and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            await self._tell(batch)
            await asyncio.sleep(PACE_S)
            for _ in batch:
                self._waiting.task_done()
            self.idle = self._waiting.empty()

    async def flush(self) -> None:
        """Return when everything handed over is told."""
        await self._waiting.join()

    async def _tell(self, batch: Sequence[Settled]) -> None:
        reports = [settled.report for settled in batch if settled.report is not None]
        while True:
            try:
                outgoing = list(self._outgoing(reports))
                for settled in batch:
                    if settled.early:
                        known = await self._evidence.place(settled.account, settled.early)
                        outgoing += [
                            Outgoing(STATUS_UPDATES, str(one.conversation_id), one) for one in known
                        ]
                await self._producer.publish(outgoing)
                await self._outcomes.mark_reported(reports)
            except Exception as error:
                dependency = dependency_of(error)
                if dependency is None:
                    raise
                _log.warning("reports_wait", dependency=dependency, reports=len(reports))
                await asyncio.sleep(RETRY_S)
                continue
            return

    def _outgoing(self, reports: Sequence[Report]) -> Iterator[Outgoing]:
        for report in reports:
            if report.status is None:
                continue
            record = StatusChanged(
                message_id=report.message_id,
                conversation_id=report.conversation_id,
                recipient_id=report.recipient_id,
                channel=self._channel,
                status=report.status,
                at=report.at,
                observed_at=report.at,
                reason=report.reason,
                replay_no=report.replay_no,
                attempts=report.attempts,
            )
            yield Outgoing(STATUS_UPDATES, str(report.conversation_id), record, report.traceparent)
