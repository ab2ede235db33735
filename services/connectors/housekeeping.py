"""What time decides: echoes that settle sends, unknown outcomes and statuses to give up, gauges."""

import asyncio
from datetime import UTC, datetime

import msgspec

from services.connectors.base import ConnectorConfig
from services.connectors.echoes import Echoes
from services.connectors.evidence import Evidence, Parked
from services.connectors.lanes import Lanes
from services.connectors.outcomes import Outcomes
from services.connectors.reporter import Reporter
from services.contracts.records import DeadLetter, Reason
from services.contracts.topics import DEAD_LETTERS
from services.runtime.kafka.producer import Outgoing, Producer
from services.runtime.telemetry import metrics
from services.runtime.telemetry.log import log
from services.runtime.unavailable import dependency_of

EVERY_S = 2.0
UNTOLD_S = 10.0
"""After this long another, who died since, stored it without telling."""
UNCLAIMED = "unclaimed_status"
_log = log(__name__)


class Housekeeping:
    """Looks at the ledger again and again."""

    def __init__(
        self,
        config: ConnectorConfig,
        outcomes: Outcomes,
        evidence: Evidence,
        echoes: Echoes,
        lanes: Lanes,
        reporter: Reporter,
        producer: Producer,
    ) -> None:
        self._config = config
        self._outcomes = outcomes
        self._evidence = evidence
        self._echoes = echoes
        self._lanes = lanes
        self._reporter = reporter
        self._producer = producer

    async def run(self) -> None:
        """Do what is due, for ever; what cannot be done now is done the next time."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._once()
            except Exception as error:
                if dependency_of(error) is None:
                    raise

    async def _once(self) -> None:
        partitions = self._lanes.partitions
        deadline_s = self._config.unknown_deadline_s
        settled = await self._echoes.look()
        settled += await self._outcomes.give_up(partitions, deadline_s)
        if self._reporter.idle:
            settled += await self._outcomes.unreported(partitions, UNTOLD_S)
        for one in settled:
            await self._reporter.put(one)
        unclaimed = await self._evidence.unclaimed(self._config.parked_deadline_s)
        letters = [self._letter(parked) for parked in unclaimed if parked.statuses]
        if letters:
            _log.warning("statuses_unclaimed", count=len(letters))
            await self._producer.publish(letters)
        await self._evidence.forget(unclaimed)
        channel, depth = self._config.channel.upper(), await self._outcomes.depth()
        for state in ("pending", "sending", "unknown"):
            metrics.ledger_depth.labels(channel, state).set(depth.get(state, 0))

    def _letter(self, parked: Parked) -> Outgoing:
        source = f"webhooks.{self._config.channel}"
        letter = DeadLetter(
            topic=source,
            partition=0,
            offset=0,
            key=f"{parked.account} {parked.provider_id}".encode(),
            value=msgspec.json.encode(parked.statuses),
            reason=Reason(UNCLAIMED, "A status came for a message that nobody sent."),
            at=datetime.now(UTC),
        )
        return Outgoing(DEAD_LETTERS, source, letter)
