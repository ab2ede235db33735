"""Stand-ins for what surrounds the worker and the lanes, and rows to work on."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import msgspec

from services.connectors.base import Accepted, Delivery, Limits, Outcome, SendError
from services.connectors.rows import Row
from services.contracts.ids import new_id
from services.contracts.records import Reason

LIMITS = Limits(account_per_s=1e6, account_burst=1000, recipient_interval_s=1e-6, recipient_burst=9)


def row(**changes: Any) -> Row:
    """Return a new delivery of one part."""
    made = Row(
        message_id=new_id(),
        recipient_id=uuid4(),
        part=0,
        parts=1,
        conversation_id=uuid4(),
        partition=3,
        account="main",
        address="55",
        content="oi",
        reply_to=None,
        at_least_once=False,
        traceparent=None,
        accepted_at=datetime.now(UTC),
        state="pending",
        replay_no=0,
        attempts=0,
        attempt_id=None,
    )
    return msgspec.structs.replace(made, **changes)


class Clock:
    """A time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Accounts:
    """Accounts that are accepted unless said otherwise."""

    def __init__(self, *names: str) -> None:
        self.good = {name: asyncio.Event() for name in names}
        for event in self.good.values():
            event.set()
        self.doubted: list[SendError] = []
        self.answering = True

    async def usable(self, name: str) -> None:
        """Return when an account may send."""
        await self.good[name].wait()

    def knows(self, name: str) -> bool:
        """Tell whether there is this account."""
        return name in self.good

    def doubt(self, name: str, error: SendError) -> None:
        """Stop an account."""
        self.doubted.append(error)
        self.good[name].clear()

    async def answers(self, _name: str) -> bool:
        """Tell whether the provider is well."""
        return self.answering


class Connector:
    """A channel whose provider does what a script says, then accepts."""

    name = "TEST"

    def __init__(self, *accounts: str, limits: Limits = LIMITS) -> None:
        self.accounts = accounts
        self.limits = limits
        self.script: list[Outcome | Exception | Callable[[], Any]] = []
        self.sent: list[Delivery] = []

    async def send(self, delivery: Delivery) -> Outcome:
        """Do the next thing of the script."""
        self.sent.append(delivery)
        step = self.script.pop(0) if self.script else Accepted(f"p{len(self.sent)}")
        if callable(step):
            step = await step()
        if isinstance(step, Exception):
            raise step
        return step


class Ledger:
    """Keeps what the worker wrote; claims are won unless scripted."""

    def __init__(self) -> None:
        self.claims: list[bool | Exception] = []
        self.claimed: list[tuple[Row, int, UUID]] = []
        self.back: list[SimpleNamespace] = []
        self.stands = True

    async def claim(self, row: Row, epoch: int, attempt_id: UUID) -> bool:
        """Win or lose a claim."""
        self.claimed.append((row, epoch, attempt_id))
        answer = self.claims.pop(0) if self.claims else True
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def put_back(
        self, row: Row, attempt_id: UUID, *, wait_s: float, failure: Reason | None = None
    ) -> bool:
        """Note a row that goes back."""
        self.back.append(
            SimpleNamespace(row=row, attempt_id=attempt_id, wait_s=wait_s, failure=failure)
        )
        return self.stands

    async def provider_id_of(self, message_id: UUID, row: Row) -> str | None:
        """Return a name made of the arguments."""
        return f"{row.account}/{message_id}"


class Results:
    """Keeps the results; the first writes fail as scripted."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, UUID, object]] = []
        self.errors: list[Exception] = []
        self.flushed = 0

    async def _store(self, kind: str, attempt_id: UUID, value: object) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.stored.append((kind, attempt_id, value))

    async def accepted(self, _row: Row, attempt_id: UUID, provider_id: str) -> None:
        """Keep an acceptance."""
        await self._store("accepted", attempt_id, provider_id)

    async def refused(self, _row: Row, attempt_id: UUID, reason: Reason) -> None:
        """Keep a failure."""
        await self._store("refused", attempt_id, reason.code)

    async def unanswered(self, _row: Row, attempt_id: UUID, reason: Reason) -> None:
        """Keep an unknown outcome."""
        await self._store("unanswered", attempt_id, reason.code)

    async def resume(self, _partition: int) -> None:
        """Have nothing to tell."""

    async def flush(self) -> None:
        """Count."""
        self.flushed += 1
