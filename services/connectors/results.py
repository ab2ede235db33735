"""Results of attempts: stored, told to the users, and joined with what webhooks said before."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from services.connectors.base import StatusUpdate
from services.connectors.echoes import Echoes
from services.connectors.evidence import Evidence
from services.connectors.outcomes import Outcomes
from services.connectors.reporter import Reporter
from services.connectors.rows import Report, Row
from services.contracts.records import Reason, StatusChanged
from services.contracts.topics import STATUS_UPDATES
from services.runtime.kafka.producer import Outgoing, Producer
from services.runtime.telemetry import metrics


class Results:
    """Brings each result into the ledger and out to the users; doing so again does no harm."""

    def __init__(
        self,
        outcomes: Outcomes,
        evidence: Evidence,
        echoes: Echoes,
        reporter: Reporter,
        producer: Producer,
        channel: str,
    ) -> None:
        self._outcomes = outcomes
        self._evidence = evidence
        self._echoes = echoes
        self._reporter = reporter
        self._producer = producer
        self._channel = channel

    async def accepted(self, row: Row, attempt_id: UUID, provider_id: str) -> None:
        """The provider took the message; statuses that came before its answer follow now."""
        report, early = await self._outcomes.accepted(row, attempt_id, provider_id)
        await self._report(report)
        if row.replay_no == 0:
            age = datetime.now(UTC) - row.accepted_at
            metrics.delivery_stage.labels("sent", self._channel).observe(age.total_seconds())
        if early:
            updates = [
                StatusUpdate(
                    provider_id=provider_id, status=one.status, at=one.at, reason=one.reason
                )
                for one in early
            ]
            await self._publish(await self._evidence.place(row.account, updates))

    async def refused(self, row: Row, attempt_id: UUID, reason: Reason) -> None:
        """The message will not be delivered."""
        await self._report(await self._outcomes.refused(row, attempt_id, reason))

    async def unanswered(self, row: Row, attempt_id: UUID, reason: Reason) -> None:
        """The send may or may not have had effect, unless an echo knows already."""
        await self._report(await self._outcomes.unanswered(row, attempt_id, reason))
        await self._publish(await self._echoes.match(row))

    async def _report(self, report: Report | None) -> None:
        if report is not None:
            await self._reporter.put(report)

    async def _publish(self, changed: Sequence[StatusChanged]) -> None:
        await self._producer.publish(
            [Outgoing(STATUS_UPDATES, str(one.conversation_id), one) for one in changed]
        )
