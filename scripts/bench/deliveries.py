"""What became of the messages: by the providers' receipts, and by what Kafka still holds."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from chaos.adapters.provider import Provider
from chaos.checkers.deliveries import judge
from chaos.history import Outcome, Receipt, Send
from chaos.waiting import Late, until
from scripts.bench.figures import Delivery, Latency, latency_of

EMPTY_DEADLINE_S = 60.0
POLL_S = 0.2


class Backlog:
    """What the platform has not worked off: records its consumers have not taken, statuses due."""

    def __init__(
        self,
        admin: AIOKafkaAdminClient,
        consumer: AIOKafkaConsumer,
        providers: Mapping[str, Provider],
    ) -> None:
        self._admin = admin
        self._consumer = consumer
        self._providers = providers

    async def records(self) -> int:
        """Return how many records lie behind the committed offsets of all groups."""
        topics = await self._consumer.topics()
        behind = 0
        for group, *_ in await self._admin.list_consumer_groups():
            offsets = await self._admin.list_consumer_group_offsets(group)
            committed = {tp: at.offset for tp, at in offsets.items() if tp.topic in topics}
            ends = await self._consumer.end_offsets(list(committed))
            behind += sum(end - committed[tp] for tp, end in ends.items() if committed[tp] >= 0)
        return behind

    async def statuses(self) -> int:
        """Return how many statuses the simulators have not told yet."""
        states = [await provider.state() for provider in self._providers.values()]
        return sum(state["webhooks"]["updates_pending"] for state in states)


@asynccontextmanager
async def watch(address: str, providers: Mapping[str, Provider]) -> AsyncIterator[Backlog]:
    """Lend a view of what is not worked off; it joins no group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    consumer = AIOKafkaConsumer(bootstrap_servers=address)
    await admin.start()
    try:
        await consumer.start()
        try:
            yield Backlog(admin, consumer, providers)
        finally:
            await consumer.stop()
    finally:
        await admin.close()


class Witness:
    """Reads the providers' receipts of one run, from where they stood before it."""

    def __init__(self, providers: Mapping[str, Provider], run: str, after: dict[str, int]) -> None:
        self._providers = providers
        self._run = run
        self._after = after
        self.receipts: dict[str, list[Receipt]] = {channel: [] for channel in providers}

    @classmethod
    async def begin(cls, providers: Mapping[str, Provider], run: str) -> "Witness":
        """Return a witness of what comes from now on."""
        states = {channel: await provider.state() for channel, provider in providers.items()}
        return cls(providers, run, {channel: s["last_seq"] for channel, s in states.items()})

    async def read(self) -> None:
        """Read what came since the last time."""
        for channel, provider in self._providers.items():
            for receipt in await provider.receipts(self._after[channel]):
                self._after[channel] = receipt.seq
                if receipt.text.startswith(self._run):
                    self.receipts[channel].append(receipt)

    @property
    def all(self) -> list[Receipt]:
        """The receipts of all channels that were read."""
        return [receipt for of_channel in self.receipts.values() for receipt in of_channel]

    async def has_all(self, contents: set[str]) -> bool:
        """Tell whether every one of these texts was kept, after reading what is new."""
        await self.read()
        return contents <= {receipt.text for receipt in self.all if receipt.kept}


async def settle(
    backlog: Backlog, idle_records: int, witness: Witness, sends: Sequence[Send], ended_at: float
) -> tuple[int, float | None]:
    """Wait until all is worked off; return the records at first, and how long that took at most.

    `idle_records` is what groups that nobody serves any more left behind before the run.
    """
    first = max(0, await backlog.records() - idle_records)
    promised = {send.content for send in sends if send.outcome is Outcome.OK}

    async def empty() -> bool:
        return await backlog.statuses() == 0 and await backlog.records() <= idle_records

    async def delivered() -> bool:
        return await witness.has_all(promised)

    worked_off = await comes("the backlog being worked off", empty)
    worked_off_at = time.time()
    all_delivered = await comes("every delivery", delivered)
    if not (worked_off and all_delivered):
        return first, None
    last = max((receipt.received_at for receipt in witness.all), default=0.0)
    return first, max(worked_off_at, last) - ended_at


async def comes(
    what: str, look: Callable[[], Awaitable[bool]], deadline_s: float = EMPTY_DEADLINE_S
) -> bool:
    """Wait until a look finds something; False when it does not by the deadline."""
    try:
        await until(what, look, deadline_s, poll_s=POLL_S)
    except Late:
        return False
    return True


def delivery_of(
    sends: Sequence[Send],
    receipts: Mapping[str, Sequence[Receipt]],
    ended_at: float,
    backlog_records: int,
    emptied_after_s: float | None,
) -> Delivery:
    """Hold the receipts of each channel against what was sent.

    Nothing is explained away: a message without a receipt is lost, also when its status is open.
    """
    every = [receipt for of_channel in receipts.values() for receipt in of_channel]
    invoked_at = {send.content: send.invoked_at for send in sends if send.outcome is Outcome.OK}
    arrived = {channel: _first(of_channel) for channel, of_channel in receipts.items()}
    taken_ms = {
        channel: [1000 * (at - invoked_at[text]) for text, at in of.items() if text in invoked_at]
        for channel, of in arrived.items()
    }
    in_time = {text for of in arrived.values() for text, at in of.items() if at <= ended_at}
    judgement = judge(sends, every, {})
    return Delivery(
        latency=_latency([ms for of in taken_ms.values() for ms in of]),
        by_channel={c: found for c, of in taken_ms.items() if (found := _latency(of))},
        backlog=len(invoked_at.keys() - in_time),
        backlog_records=backlog_records,
        emptied_after_s=emptied_after_s,
        lost=len(judgement.lost),
        duplicated=len(judgement.doubled),
        reordered=len(judgement.reordered),
    )


def _first(receipts: Sequence[Receipt]) -> dict[str, float]:
    """Return when each text was first kept."""
    found: dict[str, float] = {}
    for receipt in sorted(receipts, key=lambda r: r.seq):
        if receipt.kept:
            found.setdefault(receipt.text, receipt.received_at)
    return found


def _latency(taken_ms: Sequence[float]) -> Latency | None:
    return latency_of(taken_ms) if taken_ms else None
