"""The deliveries of a backlog: put in through Kafka, counted in the ledger, taken out there again.

No message stands behind them, so nobody may be told of one. While their account is throttled they
have no status, and their rows are removed before the throttle is lifted.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import uuid4

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from chaos.adapters.consul import address_of
from chaos.adapters.platform import NoPlatform, Platform
from chaos.backlog.figures import Scene
from chaos.waiting import until
from services.contracts.records import DeliveryRequested, encode
from services.contracts.topics import PARTITIONS, outbound

PASSWORD = "CHAT4ALL_POSTGRES_PASSWORD"  # noqa: S105 - a variable's name
USER = DATABASE = "chat4all"
STATEMENT_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_MS = 10_000
CHUNK = 1000
"""So many records are under way to Kafka at once."""
LINGER_MS = 20
BATCH_BYTES = 262_144
INTAKE_PER_S_MIN = 200
REMOVED_DEADLINE_S = 60.0
POLL_S = 0.5
_OURS = "channel = $1 and account = $2 and starts_with(content, $3)"


def records(scene: Scene, run: str, deliveries: int, lanes: int) -> Iterator[DeliveryRequested]:
    """Yield so many deliveries, spread evenly over lanes; each text begins with the run.

    An attempt that a kill cuts off is made again rather than reported: nobody knows the message.
    """
    base = uuid4().int % 10**7
    people = [(uuid4(), uuid4(), f"1998{base:07d}{number:04d}") for number in range(lanes)]
    for number in range(deliveries):
        conversation_id, recipient_id, address = people[number % lanes]
        yield DeliveryRequested(
            message_id=uuid4(),
            conversation_id=conversation_id,
            recipient_id=recipient_id,
            channel=scene.channel,
            address=address,
            content=f"{run} {number % lanes} {number // lanes}",
            accepted_at=datetime.now(UTC),
            account=scene.throttled,
            at_least_once=True,
        )


class Backlog:
    """Deliveries of one account that wait in the ledger until they are taken out."""

    def __init__(
        self,
        scene: Scene,
        kafka: str,
        ends: AIOKafkaConsumer,
        admin: AIOKafkaAdminClient,
        ledger: "asyncpg.Connection[asyncpg.Record]",
    ) -> None:
        self.run_id = uuid4().hex[:12]
        """Every delivery of this backlog begins with it."""
        self._scene = scene
        self._kafka = kafka
        self._ends = ends
        self._admin = admin
        self._ledger = ledger
        self._topic = outbound(scene.channel)
        self._sent = 0

    async def fill(self, deliveries: int, lanes: int) -> None:
        """Put so many deliveries into the channel's topic; return when all are acknowledged."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._kafka,
            acks="all",
            enable_idempotence=True,
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        await producer.start()
        try:
            rest = records(self._scene, self.run_id, deliveries, lanes)
            while chunk := list(islice(rest, CHUNK)):
                self._sent += len(chunk)
                await asyncio.gather(*[await self._send(producer, one) for one in chunk])
        finally:
            await producer.stop()

    async def _send(self, producer: AIOKafkaProducer, record: DeliveryRequested) -> Any:
        key = str(record.conversation_id).encode()
        return await producer.send(self._topic, value=encode(record), key=key)

    async def taken_in(self, tell: Callable[[int], None]) -> None:
        """Return when the connectors have moved their offsets behind all that is in the topic now.

        From then on every delivery is in the ledger, and none is read from the topic again.
        """
        partitions = [TopicPartition(self._topic, number) for number in range(PARTITIONS)]
        ends: dict[Any, int] = await self._ends.end_offsets(partitions)

        async def none_left() -> bool:
            found = await self._admin.list_consumer_group_offsets(self._scene.job)
            committed = {tp: at.offset for tp, at in found.items()}
            left: int = sum(max(0, end - max(0, committed.get(tp, 0))) for tp, end in ends.items())
            tell(left)
            return left == 0

        deadline_s = REMOVED_DEADLINE_S + self._sent / INTAKE_PER_S_MIN
        await until("the intake of the backlog", none_left, deadline_s, poll_s=POLL_S)

    async def states(self) -> Counter[str]:
        """Return how many deliveries of this backlog the ledger has in each state."""
        rows = await self._ledger.fetch(
            "select state, count(*) as deliveries from ledger.delivery"  # noqa: S608 - a constant
            f" where {_OURS} group by state",
            *self._marks,
        )
        return Counter({row["state"]: row["deliveries"] for row in rows})

    async def remove(self) -> None:
        """Delete the rows, each as soon as no attempt is at it."""

        async def none_left() -> bool:
            # Connectors write several rows at once: who waited for them here could block them.
            await self._ledger.execute(
                "delete from ledger.delivery where ctid = any(array("  # noqa: S608 - a constant
                f"select ctid from ledger.delivery where {_OURS} and state <> 'sending'"
                " for update skip locked))",
                *self._marks,
            )
            return not await self.states()

        await until("the removal of the backlog", none_left, REMOVED_DEADLINE_S, poll_s=POLL_S)

    async def take_out(self) -> None:
        """Leave nothing behind, however far it was filled."""
        if not self.is_empty:
            await self.taken_in(lambda _left: None)
            await self.remove()
            self._sent = 0

    @property
    def is_empty(self) -> bool:
        """True when nothing was put in, or all was taken out."""
        return self._sent == 0

    @property
    def by_hand(self) -> str:
        """The statement that does in the database what `remove` does."""
        return f"delete from ledger.delivery where content like '{self.run_id} %'"  # noqa: S608

    @property
    def _marks(self) -> tuple[str, str, str]:
        return self._scene.channel, self._scene.throttled, f"{self.run_id} "


@asynccontextmanager
async def opened(platform: Platform, scene: Scene) -> AsyncIterator[Backlog]:
    """Lend an empty backlog, connected with Kafka and with the ledger's database."""
    password = os.environ.get(PASSWORD)
    if not password:
        raise NoPlatform(f'{PASSWORD} is not set: eval "$(./scripts/just env)"')
    kafka = await address_of(platform.consul_url, "kafka", platform.session)
    found = await address_of(platform.consul_url, "postgres", platform.session)
    host, _, port = found.rpartition(":")
    async with AsyncExitStack() as stack:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        stack.push_async_callback(admin.close)
        await admin.start()
        ends = AIOKafkaConsumer(bootstrap_servers=kafka)
        stack.push_async_callback(ends.stop)
        await ends.start()
        ledger = await asyncpg.connect(
            host=host,
            port=int(port),
            user=USER,
            database=DATABASE,
            password=password,
            command_timeout=STATEMENT_TIMEOUT_S,
        )
        stack.push_async_callback(ledger.close)
        yield Backlog(scene, kafka, ends, admin, ledger)
