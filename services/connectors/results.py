"""Results of attempts: stored, then told to the users."""

from datetime import UTC, datetime
from uuid import UUID

from services.connectors.outcomes import Outcomes
from services.connectors.reporter import Reporter
from services.connectors.rows import Row
from services.contracts.records import Reason
from services.runtime.telemetry import metrics


class Results:
    """Brings each result into the ledger and out to the users; doing so again does no harm."""

    def __init__(self, outcomes: Outcomes, reporter: Reporter, channel: str) -> None:
        self._outcomes = outcomes
        self._reporter = reporter
        self._sent = metrics.delivery_stage.labels("sent", channel)

    async def accepted(self, row: Row, attempt_id: UUID, provider_id: str) -> None:
        """The provider took the message."""
        await self._reporter.put(await self._outcomes.accepted(row, attempt_id, provider_id))
        if row.replay_no == 0:
            age = datetime.now(UTC) - row.accepted_at
            self._sent.observe(age.total_seconds())

    async def refused(self, row: Row, attempt_id: UUID, reason: Reason) -> None:
        """The message will not be delivered."""
        await self._reporter.put(await self._outcomes.refused(row, attempt_id, reason))

    async def unanswered(self, row: Row, attempt_id: UUID, reason: Reason) -> None:
        """The send may or may not have had effect."""
        await self._reporter.put(await self._outcomes.unanswered(row, attempt_id, reason))

    async def resume(self, partition: int) -> None:
        """Tell what an earlier owner of a partition stored and perhaps did not tell."""
        for settled in await self._outcomes.unreported([partition]):
            await self._reporter.put(settled)

    async def flush(self) -> None:
        """Return when all that was stored here is told."""
        await self._reporter.flush()
