"""Stand-ins for what surrounds the worker, the lanes and the webhooks, and rows to work on."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import msgspec
from multidict import CIMultiDict

from services.connectors.base import (
    Accepted,
    Answer,
    Delivery,
    Echo,
    InboundMessage,
    Outcome,
    SendError,
    StatusUpdate,
)
from services.connectors.rows import Report, Row, Settled
from services.contracts.channels import Limits
from services.contracts.ids import inbound_id, new_id
from services.contracts.records import Reason, StatusChanged
from services.contracts.status import Status
from services.runtime.kafka.producer import Outgoing
from services.runtime.unavailable import Unavailable

TOLD: dict[str, Any] = {
    "service_name": "connector",
    "instance_id": "test",
    "http_host": "127.0.0.1",
    "http_port": 1,
    "consul_http_addr": "127.0.0.1:1",
    "internal_token": "x" * 16,
    "channel": "test",
}
"""What a channel's connector is told beside its accounts."""
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


class OneAnswer:
    """A provider that answers every request the same; keeps what it was asked."""

    def __init__(self, status: int, body: object) -> None:
        self.answer = Answer(status, CIMultiDict({"Retry-After": "7"}), msgspec.json.encode(body))
        self.asked: list[tuple[str, str, Mapping[str, str], bytes | None]] = []

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """Answer as always."""
        self.asked.append((method, path, headers, body))
        return self.answer


class Accounts:
    """Accounts that are accepted unless said otherwise."""

    def __init__(self, *names: str) -> None:
        self.good = {name: asyncio.Event() for name in names}
        for event in self.good.values():
            event.set()
        self.noted: list[tuple[str, SendError]] = []
        self.doubted: list[SendError] = []
        self.answering = True

    async def usable(self, name: str) -> None:
        """Return when an account may send."""
        await self.good[name].wait()

    def is_usable(self, name: str) -> bool:
        """Tell whether an account may send."""
        return self.good[name].is_set()

    def knows(self, name: str) -> bool:
        """Tell whether there is this account."""
        return name in self.good

    def note(self, name: str, error: SendError) -> None:
        """Keep what went wrong."""
        self.noted.append((name, error))

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


def _kept(reason: Reason) -> str:
    """Return the code of a reason that PostgreSQL can keep."""
    if "\0" in reason.detail:
        raise ValueError(reason.detail)
    return reason.code


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
        await self._store("refused", attempt_id, _kept(reason))

    async def unanswered(self, _row: Row, attempt_id: UUID, reason: Reason) -> None:
        """Keep an unknown outcome."""
        await self._store("unanswered", attempt_id, _kept(reason))

    async def resume(self, _partition: int) -> None:
        """Have nothing to tell."""

    async def flush(self) -> None:
        """Count."""
        self.flushed += 1


class Evidence:
    """Knows messages by the provider's names of them; what is said of others is parked."""

    def __init__(self) -> None:
        self.named: dict[str, Row] = {}
        self.inbound: dict[str, UUID] = {}
        self.parked: list[StatusUpdate] = []
        self.away = False

    async def place(self, _account: str, updates: Sequence[StatusUpdate]) -> list[StatusChanged]:
        """Tell whose statuses these are."""
        self._answer()
        self.parked += [one for one in updates if one.provider_id not in self.named]
        return [
            StatusChanged(
                message_id=self.named[one.provider_id].message_id,
                conversation_id=self.named[one.provider_id].conversation_id,
                recipient_id=self.named[one.provider_id].recipient_id,
                channel=Connector.name,
                status=one.status,
                at=one.at,
                observed_at=datetime.now(UTC),
                reason=one.reason,
            )
            for one in updates
            if one.provider_id in self.named
        ]

    async def name_inbound(
        self, account: str, messages: Sequence[InboundMessage]
    ) -> dict[str, UUID]:
        """Name what customers wrote; return what they reply to."""
        self._answer()
        for one in messages:
            self.inbound[one.provider_id] = inbound_id(Connector.name, account, one.provider_id)
        known = {name: row.message_id for name, row in self.named.items()} | self.inbound
        replied = [one.reply_to_provider_id or "" for one in messages]
        return {name: known[name] for name in replied if name in known}

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("postgres")


class Echoes:
    """Gives each echo to the first send that lost its answer, if it has that text and address."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self.lost: list[Row] = []

    async def place(self, account: str, echoes: Sequence[Echo]) -> list[Settled]:
        """Return what is settled by these."""
        return [settled for echo in echoes for settled in self._claim(account, echo)]

    def _claim(self, account: str, echo: Echo) -> list[Settled]:
        same = [
            one for one in self.lost if (one.address, one.content) == (echo.address, echo.content)
        ]
        if not same or echo.provider_id in self._evidence.named:
            return []
        found = same[0]
        self.lost.remove(found)
        self._evidence.named[echo.provider_id] = found
        report = Report(
            message_id=found.message_id,
            recipient_id=found.recipient_id,
            part=found.part,
            parts=found.parts,
            conversation_id=found.conversation_id,
            replay_no=found.replay_no,
            status=Status.SENT,
            at=datetime.now(UTC),
        )
        return [Settled(account, report, [])]


class Bench:
    """What webhooks are placed in, filled as the bench on a real PostgreSQL is."""

    def __init__(self) -> None:
        self.channel = Connector.name
        self.evidence = Evidence()
        self.echoes = Echoes(self.evidence)

    async def sent(self, *, name: str) -> tuple[Row, UUID]:
        """Have a send that the provider took under a name."""
        self.evidence.named[name] = row()
        return self.evidence.named[name], new_id()

    async def lost(self) -> tuple[Row, UUID]:
        """Have a send whose outcome is unknown."""
        self.echoes.lost.append(row())
        return self.echoes.lost[-1], new_id()


class Reporter:
    """Keeps what it is to tell."""

    def __init__(self) -> None:
        self.handed: list[Settled] = []

    async def put(self, settled: Settled) -> None:
        """Take what a result led to."""
        self.handed.append(settled)


class Topics:
    """Keep what is published, in order; `takes` says after how many records Kafka goes away."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.takes: int | None = None

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Take all records, or some and refuse."""
        self.published += outgoing[: self.takes]
        if self.takes is not None:
            raise Unavailable("kafka")

    def on(self, topic: str) -> list[Any]:
        """Return the records of a topic."""
        return [one.record for one in self.published if one.topic == topic]
