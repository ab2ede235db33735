"""One channel of its own on a real PostgreSQL, seen by two instances and by its users."""

from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec

from services.connectors.base import Echo, Reference, StatusUpdate
from services.connectors.echoes import Echoes
from services.connectors.evidence import Evidence
from services.connectors.ledger import CLAIM_BOUND_S, Ledger
from services.connectors.outcomes import Outcomes
from services.connectors.reporter import Reporter
from services.connectors.rows import Lane, Row, Settled
from services.connectors.tests import doubles
from services.contracts.ids import new_id
from services.contracts.records import Reason, StatusChanged
from services.contracts.status import Status, rank
from services.runtime.kafka.producer import Outgoing
from services.runtime.postgres import Pool, Postgres

CONVERSATION, RECIPIENT = uuid4(), uuid4()
LANE = Lane(3, CONVERSATION, RECIPIENT)
NOW = datetime.now(UTC)
LOST = Reason("no_answer", "Reset.")


class Users:
    """What the users' side makes of the records: the highest status of each delivery counts."""

    def __init__(self) -> None:
        self.records: list[StatusChanged] = []

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Take records."""
        self.records += [cast("StatusChanged", one.record) for one in outgoing]

    def sees(self, row: Row) -> tuple[int, Status, str | None] | None:
        """Return the replay, status and reason of a delivery; None when nothing was told."""
        of_row = [
            (one.replay_no, one.status, one.reason.code if one.reason else None)
            for one in self.records
            if (one.message_id, one.recipient_id) == (row.message_id, row.recipient_id)
        ]
        return max(of_row, key=lambda one: (one[0], rank(one[1], one[2])), default=None)


class Bench:
    """One channel's ledger and all that writes to it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.channel = f"TEST_{uuid4().hex[:8].upper()}"
        postgres = cast("Postgres", SimpleNamespace(pool=pool))
        self.first = Ledger(postgres, self.channel, "first")
        self.second = Ledger(postgres, self.channel, "second")
        self.outcomes = Outcomes(postgres, self.channel)
        self.echoes = Echoes(postgres, self.outcomes, self.channel)
        self.evidence = Evidence(postgres, self.channel)
        self.users = Users()
        self.reporter = Reporter(
            self.outcomes, self.evidence, cast("Any", self.users), self.channel
        )

    async def claimed(self, row: Row | None = None) -> tuple[Row, UUID]:
        """Take one delivery in and claim it, or claim the head that is there."""
        if row is not None or await self.first.head(LANE) is None:
            await self.first.take_in([row or delivery()])
        epoch = (await self.first.own([3], {}))[3]
        found = await head(self.first)
        attempt = new_id()
        assert await self.first.claim(found, epoch, attempt)
        return found, attempt

    async def lost(self, row: Row | None = None) -> tuple[Row, UUID]:
        """Have a send whose outcome is unknown, so long ago that the lane goes on."""
        row, attempt = await self.claimed(row)
        await self.tell(await self.outcomes.unanswered(row, attempt, LOST))
        await self.age(CLAIM_BOUND_S, row)
        return row, attempt

    async def sent(self, row: Row | None = None, name: str | None = None) -> tuple[Row, UUID]:
        """Have a send that the provider took under a name."""
        row, attempt = await self.claimed(row)
        await self.tell(await self.outcomes.accepted(row, attempt, name or f"p-{attempt}"))
        return row, attempt

    async def tell(self, *settled: Settled) -> None:
        """Tell the users what results led to."""
        await self.reporter._tell(settled)

    async def hear(self, *updates: StatusUpdate, account: str = "main") -> list[StatusChanged]:
        """Let a webhook bring statuses, and tell the users."""
        changed = await self.evidence.place(account, updates)
        await self.users.publish([Outgoing("", "", one) for one in changed])
        return changed

    async def echo(self, name: str, content: str = "oi") -> None:
        """Let a webhook bring an echo, and tell the users."""
        echo = Echo(provider_id=name, address="55", content=content, at=NOW)
        await self.tell(*await self.echoes.place("main", [echo]))

    async def state(self, row: Row) -> str:
        """Return the state of a row."""
        found = await self.pool.fetchval(
            "select state from ledger.delivery where message_id = $1 and recipient_id = $2"
            " and part = $3",
            row.message_id,
            row.recipient_id,
            row.part,
        )
        return str(found)

    async def age(self, seconds: float, row: Row | None = None) -> None:
        """Let claims and waits, of one row or of all, be older than they are."""
        await self.pool.execute(
            "update ledger.delivery set claimed_at = claimed_at - $2 * interval '1 second',"
            " next_attempt_at = next_attempt_at - $2 * interval '1 second'"
            " where channel = $1 and ($3::uuid is null or message_id = $3)",
            self.channel,
            seconds,
            row and row.message_id,
        )


def delivery(**changes: Any) -> Row:
    """Return a new delivery in the lane."""
    return doubles.row(**({"conversation_id": CONVERSATION, "recipient_id": RECIPIENT} | changes))


def parts(*contents: str) -> list[Row]:
    """Return one delivery in parts."""
    name = new_id()
    return [
        delivery(message_id=name, part=part, parts=len(contents), content=content)
        for part, content in enumerate(contents)
    ]


async def head(ledger: Ledger, lane: Lane = LANE) -> Row:
    """Return a lane's head, which must be there."""
    row = await ledger.head(lane)
    assert row is not None
    return row


def status(row: Row, attempt: UUID, kind: Status = Status.SENT, **changes: Any) -> StatusUpdate:
    """Return a provider's status that echoes the attempt."""
    reference = Reference(
        message_id=row.message_id, recipient_id=row.recipient_id, part=row.part, attempt_id=attempt
    )
    update = StatusUpdate(
        provider_id=f"p-{attempt}",
        status=kind,
        at=NOW,
        reference=str(reference),
        reason=Reason("code", "Detail.") if kind is Status.FAILED else None,
    )
    return msgspec.structs.replace(update, **changes)
