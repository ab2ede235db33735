"""The delivery ledger: decides whether a send may happen, and keeps what came of it.

States of a row: pending -> sending (claimed under the partition's epoch) -> sent | failed |
unknown | pending again. `unknown` and a failure for lack of evidence give way to late evidence.
All times are the database's clock.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from services.connectors.http import LEASE_S
from services.contracts.records import Reason
from services.contracts.status import OUTCOME_UNKNOWN, Status
from services.runtime.postgres import Pool, Postgres

CLAIM_BOUND_S = 2 * LEASE_S + 0.5
"""After this long no byte of a claimed send can still be written: twice the lease and a margin."""


class Lane(Struct, frozen=True):
    """Deliveries that keep their order: one conversation's to one recipient on this channel."""

    partition: int
    conversation_id: UUID
    recipient_id: UUID


class Row(Struct, frozen=True, kw_only=True):
    """A delivery as the ledger has it."""

    message_id: UUID
    recipient_id: UUID
    part: int
    conversation_id: UUID
    partition: int
    account: str
    address: str
    content: str
    reply_to: UUID | None
    traceparent: str | None
    accepted_at: datetime
    state: str
    replay_no: int
    attempts: int
    attempt_id: UUID | None
    wait_s: float = 0.0
    """How long a pending row must wait, or a foreign claim is still to be respected."""

    @property
    def lane(self) -> Lane:
        """The lane this delivery is in."""
        return Lane(self.partition, self.conversation_id, self.recipient_id)


class Report(Struct, frozen=True, kw_only=True):
    """What the users are to be told about a delivery."""

    message_id: UUID
    recipient_id: UUID
    part: int
    conversation_id: UUID
    replay_no: int
    status: Status
    at: datetime
    error_code: str | None = None
    error_detail: str | None = None
    traceparent: str | None = None


class EarlyStatus(Struct, frozen=True, kw_only=True):
    """A status that came before the answer which tells whose it is."""

    status: Status
    at: datetime
    reason: Reason | None = None


_ROW = """
    message_id, recipient_id, part, conversation_id, partition, account, address, content,
    reply_to, traceparent, accepted_at, state, replay_no, attempts, attempt_id,
    greatest(0, extract(epoch from
        case state when 'pending' then next_attempt_at
                   else claimed_at + $1 * interval '1 second' end - clock_timestamp()
    ))::float8 as wait_s
"""
_REPORT = """
    message_id, recipient_id, part, conversation_id, replay_no, state, settled_at, error_code,
    error_detail, traceparent
"""
_STATUS = {"sent": Status.SENT, "failed": Status.FAILED, "unknown": Status.UNKNOWN}


class Ledger:
    """One channel's rows of the ledger."""

    def __init__(self, postgres: Postgres, channel: str, instance: str) -> None:
        self._postgres = postgres
        self._channel = channel
        self._instance = instance

    @property
    def _pool(self) -> Pool:
        return self._postgres.pool

    async def own(self, partitions: Sequence[int], held: dict[int, int]) -> dict[int, int]:
        """Make this instance the owner of partitions; return the epoch of each.

        An epoch in `held` that nobody has raised since is kept, so that what this instance has
        in flight stays its own; every other partition gets a new epoch.
        """
        rows = await self._pool.fetch(
            """
            insert into ledger.partition_owner as o (channel, partition, epoch, owner)
            select $1, p, 1, $2 from unnest($3::int[], $4::bigint[]) as a (p, held)
            on conflict (channel, partition) do update set
                epoch = o.epoch + 1, owner = excluded.owner, since = clock_timestamp()
                where (o.partition, o.epoch, o.owner) not in (
                    select p, held, $2 from unnest($3::int[], $4::bigint[]) as b (p, held))
            returning partition, epoch
            """,
            self._channel,
            self._instance,
            list(partitions),
            [held.get(partition, 0) for partition in partitions],
        )
        raised = {row["partition"]: row["epoch"] for row in rows}
        return {p: raised.get(p, held.get(p, 0)) for p in partitions}

    async def take_in(self, new: Sequence[Row]) -> set[tuple[UUID, UUID]]:
        """Store new deliveries in their order; return which were new, as (message, recipient)."""
        rows = await self._pool.fetch(
            """
            insert into ledger.delivery (message_id, recipient_id, channel, part, conversation_id,
                partition, account, address, content, reply_to, traceparent, accepted_at)
            select m, r, $1, s, c, p, a, d, t, re, tr, at
            from unnest($2::uuid[], $3::uuid[], $4::smallint[], $5::uuid[], $6::int[], $7::text[],
                $8::text[], $9::text[], $10::uuid[], $11::text[], $12::timestamptz[])
                with ordinality as n (m, r, s, c, p, a, d, t, re, tr, at, i)
            order by i
            on conflict do nothing
            returning message_id, recipient_id
            """,
            self._channel,
            [row.message_id for row in new],
            [row.recipient_id for row in new],
            [row.part for row in new],
            [row.conversation_id for row in new],
            [row.partition for row in new],
            [row.account for row in new],
            [row.address for row in new],
            [row.content for row in new],
            [row.reply_to for row in new],
            [row.traceparent for row in new],
            [row.accepted_at for row in new],
        )
        return {(row["message_id"], row["recipient_id"]) for row in rows}

    async def lanes(self, partition: int) -> list[Lane]:
        """Return the lanes of a partition that have unfinished rows."""
        rows = await self._pool.fetch(
            """
            select distinct conversation_id, recipient_id from ledger.delivery
            where channel = $1 and partition = $2 and state in ('pending', 'sending')
            """,
            self._channel,
            partition,
        )
        return [Lane(partition, row["conversation_id"], row["recipient_id"]) for row in rows]

    async def head(self, lane: Lane) -> Row | None:
        """Return the first unfinished row of a lane; None when there is none."""
        row = await self._pool.fetchrow(
            f"""
            select {_ROW} from ledger.delivery
            where channel = $2 and partition = $3 and conversation_id = $4 and recipient_id = $5
                and state in ('pending', 'sending')
            order by position limit 1
            """,  # noqa: S608 - a constant list of columns
            CLAIM_BOUND_S,
            self._channel,
            lane.partition,
            lane.conversation_id,
            lane.recipient_id,
        )
        return None if row is None else Row(**row)

    async def claim(self, row: Row, epoch: int, attempt_id: UUID) -> bool:
        """Claim a pending row under an epoch; False when the epoch or the row has moved on."""
        answer = await self._pool.execute(
            """
            update ledger.delivery d set state = 'sending', attempt_id = $5, epoch = $6,
                attempts = attempts + 1, claimed_at = clock_timestamp()
            from ledger.partition_owner o
            where d.message_id = $1 and d.recipient_id = $2 and d.channel = $3 and d.part = $4
                and d.state = 'pending'
                and o.channel = d.channel and o.partition = d.partition
                and o.epoch = $6 and o.owner = $7
            """,
            row.message_id,
            row.recipient_id,
            self._channel,
            row.part,
            attempt_id,
            epoch,
            self._instance,
        )
        return bool(answer == "UPDATE 1")

    async def put_back(self, row: Row, attempt_id: UUID, *, wait_s: float, free: bool) -> None:
        """Make a claimed row pending again, after a wait; `free` gives the attempt back."""
        await self._pool.execute(
            """
            update ledger.delivery set state = 'pending', attempt_id = null,
                attempts = attempts - $6::int,
                next_attempt_at = clock_timestamp() + $7 * interval '1 second'
            where message_id = $1 and recipient_id = $2 and channel = $3 and part = $4
                and attempt_id = $5 and state = 'sending'
            """,
            row.message_id,
            row.recipient_id,
            self._channel,
            row.part,
            attempt_id,
            int(free),
            wait_s,
        )

    async def accepted(
        self, row: Row, attempt_id: UUID, provider_id: str
    ) -> tuple[Report | None, list[EarlyStatus]]:
        """Store that the provider took the message; return the report and early statuses."""
        found = await self._pool.fetchrow(
            f"""
            with told as (
                update ledger.delivery set state = 'sent', provider_id = $6, error_code = null,
                    error_detail = null, settled_at = clock_timestamp(), reported = false
                where message_id = $1 and recipient_id = $2 and channel = $3 and part = $4
                    and attempt_id = $5 and (state <> 'failed' or error_code = $7)
                returning {_REPORT}
            ), linked as (
                insert into ledger.provider_message as p
                    (channel, account, provider_id, message_id, recipient_id, part)
                values ($3, $8, $6, $1, $2, $4)
                on conflict (channel, account, provider_id) do update set
                    message_id = excluded.message_id, recipient_id = excluded.recipient_id,
                    part = excluded.part
                returning parked
            )
            select linked.parked, told.* from linked left join told on true
            """,  # noqa: S608 - a constant list of columns
            row.message_id,
            row.recipient_id,
            self._channel,
            row.part,
            attempt_id,
            provider_id,
            OUTCOME_UNKNOWN,
            row.account,
        )
        values = dict(found or {})
        early = msgspec.json.decode(values.pop("parked"), type=list[EarlyStatus])
        return (_report(values) if values["message_id"] is not None else None), early

    async def refused(self, row: Row, attempt_id: UUID, code: str, detail: str) -> Report | None:
        """Store that the message will not be delivered."""
        return await self._settle(row, attempt_id, "failed", code, detail)

    async def unanswered(self, row: Row, attempt_id: UUID, code: str, detail: str) -> Report | None:
        """Store that a claimed send may or may not have had effect."""
        return await self._settle(row, attempt_id, "unknown", code, detail)

    async def _settle(
        self, row: Row, attempt_id: UUID, state: str, code: str, detail: str
    ) -> Report | None:
        found = await self._pool.fetchrow(
            f"""
            update ledger.delivery set state = $6, error_code = $7, error_detail = $8,
                settled_at = clock_timestamp(), reported = false
            where message_id = $1 and recipient_id = $2 and channel = $3 and part = $4
                and attempt_id = $5 and state = 'sending'
            returning {_REPORT}
            """,  # noqa: S608 - a constant list of columns
            row.message_id,
            row.recipient_id,
            self._channel,
            row.part,
            attempt_id,
            state,
            code,
            detail,
        )
        return None if found is None else _report(found)

    async def give_up(self, partitions: Sequence[int], deadline_s: float) -> list[Report]:
        """Fail the rows of partitions whose outcome stayed unknown for too long."""
        rows = await self._pool.fetch(
            f"""
            update ledger.delivery set state = 'failed', error_code = $4, reported = false,
                error_detail = 'The provider gave no evidence of the outcome in time.',
                settled_at = clock_timestamp()
            where channel = $1 and partition = any($2) and state = 'unknown'
                and claimed_at < clock_timestamp() - $3 * interval '1 second'
            returning {_REPORT}
            """,  # noqa: S608 - a constant list of columns
            self._channel,
            list(partitions),
            deadline_s,
            OUTCOME_UNKNOWN,
        )
        return [_report(row) for row in rows]

    async def unreported(self, partition: int) -> list[Report]:
        """Return what an earlier owner of a partition stored but may not have told."""
        rows = await self._pool.fetch(
            f"select {_REPORT} from ledger.delivery"  # noqa: S608 - a constant list of columns
            " where channel = $1 and partition = $2 and not reported and state = any($3)",
            self._channel,
            partition,
            list(_STATUS),
        )
        return [_report(row) for row in rows]

    async def mark_reported(self, reports: Sequence[Report]) -> None:
        """Store that reports stand on Kafka, unless their rows have moved on since."""
        await self._pool.execute(
            """
            update ledger.delivery d set reported = true
            from unnest($2::uuid[], $3::uuid[], $4::smallint[], $5::timestamptz[])
                as r (message_id, recipient_id, part, settled_at)
            where d.channel = $1 and d.message_id = r.message_id
                and d.recipient_id = r.recipient_id and d.part = r.part
                and d.settled_at = r.settled_at
            """,
            self._channel,
            [report.message_id for report in reports],
            [report.recipient_id for report in reports],
            [report.part for report in reports],
            [report.at for report in reports],
        )

    async def provider_id_of(self, message_id: UUID, address_of: UUID) -> str | None:
        """Return what the provider calls a message in its exchange with one person."""
        found: str | None = await self._pool.fetchval(
            """
            select provider_id from ledger.provider_message
            where message_id = $1 and channel = $2
                and (recipient_id = $3 or recipient_id is null)
            order by part limit 1
            """,
            message_id,
            self._channel,
            address_of,
        )
        return found


def _report(row: Any) -> Report:
    values = dict(row)
    state, at = values.pop("state"), values.pop("settled_at")
    return Report(**values, status=_STATUS[state], at=at)
