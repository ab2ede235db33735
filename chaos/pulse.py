"""How the load fares at this moment: what is under way, how fast, what each partition delivered."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from chaos.adapters import NO_ANSWER
from chaos.adapters.provider import Provider
from chaos.history import Outcome, Receipt, Send
from chaos.statistics import quantile
from chaos.workload import Workload

BEAT_S = 0.2
RECENT_S = 2.0


class Witness:
    """The receipts of one provider since a moment, read as they come."""

    def __init__(self, provider: Provider, after: int, received: int) -> None:
        self._provider = provider
        self._after = after
        self._received = received
        self.receipts: list[Receipt] = []
        self.restarted = False

    @classmethod
    async def begin(cls, provider: Provider) -> "Witness":
        """Begin behind the last receipt that there is."""
        state = await provider.state()
        return cls(provider, state["last_seq"], state["received"])

    async def catch_up(self) -> list[Receipt]:
        """Return the receipts that are new."""
        found = await self._provider.receipts(self._after)
        if found:
            self._after = found[-1].seq
            self.receipts += found
        return found

    async def check(self) -> None:
        """Notice when the simulator lost its counters, and with them perhaps receipts."""
        state = await self._provider.state()
        self.restarted |= state["received"] < self._received or state["last_seq"] < self._after
        self._received = state["received"]


class Pulse:
    """Compares what was promised with what arrived, a little at a time."""

    def __init__(
        self,
        workload: Workload,
        witnesses: Sequence[Witness],
        partition_of: Callable[[str], int],
        now: Callable[[], float],
    ) -> None:
        self._workload = workload
        self._witnesses = witnesses
        self._partition_of = partition_of
        self._now = now
        self._read = 0
        self._early: dict[str, float] = {}
        """When messages arrived whose answer is not known yet."""
        self._open: dict[str, Send] = {}
        self._accounted: set[str] = set()
        self._recent: deque[tuple[float, float]] = deque()
        self._turn = asyncio.Lock()
        self.acknowledged = 0
        self.refused = 0
        self.delivered = 0
        self.delivered_until: dict[int, float] = {}
        """The latest sending time among the delivered messages of each partition."""

    async def beat(self) -> None:
        """Take in what is new; raise what kept a witness from being read, after the others."""
        unread: Exception | None = None
        async with self._turn:
            for witness in self._witnesses:
                try:
                    found = await witness.catch_up()
                except NO_ANSWER as error:
                    unread = error
                    continue
                for receipt in found:
                    if receipt.kept and receipt.text.startswith(self._workload.run_id):
                        self._arrived(receipt.text, receipt.received_at)
        self._answered()
        while self._recent and self._recent[0][0] < self._now() - RECENT_S:
            self._recent.popleft()
        if unread is not None:
            raise unread

    def _arrived(self, content: str, at: float) -> None:
        send = self._open.pop(content, None)
        if send is None:
            self._early.setdefault(content, at)
        else:
            self._accounted.discard(content)
            self._deliver(send, at)

    def _answered(self) -> None:
        sends = self._workload.sends[self._read :]
        self._read += len(sends)
        for send in sends:
            at = self._early.pop(send.content, None)
            if send.outcome is not Outcome.OK:
                self.refused += 1
                continue
            self.acknowledged += 1
            if at is None:
                self._open[send.content] = send
            else:
                self._deliver(send, at)

    def _deliver(self, send: Send, at: float) -> None:
        self.delivered += 1
        self._recent.append((at, at - send.invoked_at))
        partition = self._partition_of(send.lane)
        known = self.delivered_until.get(partition, 0.0)
        self.delivered_until[partition] = max(known, send.invoked_at)

    def account(self, send: Send) -> None:
        """Wait no longer for a message whose outcome is visibly unknown; it may still arrive."""
        if send.content in self._open:
            self._accounted.add(send.content)

    @property
    def unseen(self) -> int:
        """How many messages were promised, have not arrived and are not accounted for."""
        return len(self._open) - len(self._accounted)

    def overdue(self, patience_s: float) -> list[Send]:
        """Return those of them that have been under way for longer than this."""
        limit = self._now() - patience_s
        return [
            send
            for content, send in self._open.items()
            if send.invoked_at < limit and content not in self._accounted
        ]

    def p99_s(self) -> float | None:
        """Return the p99 of what arrived lately; None when nothing did."""
        return quantile([latency for _, latency in self._recent], 0.99) if self._recent else None
