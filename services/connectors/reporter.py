"""Tells the users' side what the ledger knows: publishes reports, then marks them as told."""

import asyncio
from collections.abc import Iterator, Sequence

from services.connectors.outcomes import Outcomes
from services.connectors.rows import Report
from services.contracts.records import StatusChanged
from services.contracts.topics import STATUS_UPDATES
from services.runtime.kafka.producer import Outgoing, Producer
from services.runtime.telemetry.log import log
from services.runtime.unavailable import dependency_of

BATCH_MAX = 200
BACKLOG_MAX = 10_000
PACE_S = 0.05
"""Reports that come this close together share a write."""
RETRY_S = 0.5
_log = log(__name__)


class Reporter:
    """Publishes reports in the order given; what a crash leaves is found by the next owner."""

    def __init__(self, outcomes: Outcomes, producer: Producer, channel: str) -> None:
        self._outcomes = outcomes
        self._producer = producer
        self._channel = channel
        self._waiting: asyncio.Queue[Report] = asyncio.Queue(BACKLOG_MAX)

    async def put(self, report: Report) -> None:
        """Hand a report over; waits while too many are waiting."""
        await self._waiting.put(report)

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

    async def flush(self) -> None:
        """Return when everything handed over is told."""
        await self._waiting.join()

    async def _tell(self, batch: Sequence[Report]) -> None:
        while True:
            try:
                await self._producer.publish(list(self._outgoing(batch)))
                await self._outcomes.mark_reported(batch)
            except Exception as error:
                dependency = dependency_of(error)
                if dependency is None:
                    raise
                _log.warning("reports_wait", dependency=dependency, reports=len(batch))
                await asyncio.sleep(RETRY_S)
                continue
            return

    def _outgoing(self, batch: Sequence[Report]) -> Iterator[Outgoing]:
        for report in batch:
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
