"""The delivery ledger: decides whether a send may happen, and keeps what came of it.

States of a row: pending -> sending (claimed under the partition's epoch) -> sent | failed |
unknown | pending again. `unknown` and a failure for lack of evidence give way to late evidence.
All times are the database's clock.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from services.connectors.http import LEASE_S
from services.connectors.rows import Claim, EarlyStatus, Lane, Report, Row, Settled, Taken
from services.contracts.status import OUTCOME_UNKNOWN, Status
from services.runtime.batches import Batches
from services.runtime.postgres import Pool, Postgres

CLAIM_BOUND_S = 2 * LEASE_S + 0.5
"""After this long no byte of a claimed send can still be written: twice the lease and a margin."""
BATCH_MAX = 100
PACE_S = 0.01
"""Claims, and results, that come this close together share a write."""


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
        self._claims: Batches[Claim, bool] = Batches(self._claim_many, BATCH_MAX, PACE_S)
        self._accepts: Batches[Taken, Settled] = Batches(self._accept_many, BATCH_MAX, PACE_S)

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
        return await self._claims.add(Claim(row, epoch, attempt_id))

    async def _claim_many(self, claims: Sequence[Claim]) -> list[bool]:
        rows = await self._pool.fetch(
            """
            update ledger.delivery d set state = 'sending', attempt_id = c.attempt_id,
                epoch = c.epoch, attempts = attempts + 1, claimed_at = clock_timestamp()
            from unnest($3::uuid[], $4::uuid[], $5::smallint[], $6::bigint[], $7::uuid[])
                as c (message_id, recipient_id, part, epoch, attempt_id), ledger.partition_owner o
            where d.message_id = c.message_id and d.recipient_id = c.recipient_id
                and d.channel = $1 and d.part = c.part and d.state = 'pending'
                and o.channel = d.channel and o.partition = d.partition
                and o.epoch = c.epoch and o.owner = $2
            returning d.attempt_id
            """,
            self._channel,
            self._instance,
            [claim.row.message_id for claim in claims],
            [claim.row.recipient_id for claim in claims],
            [claim.row.part for claim in claims],
            [claim.epoch for claim in claims],
            [claim.attempt_id for claim in claims],
        )
        won = {row["attempt_id"] for row in rows}
        return [claim.attempt_id in won for claim in claims]

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

    async def accepted(self, row: Row, attempt_id: UUID, provider_id: str) -> Settled:
        """Store that the provider took the message; return the report and early statuses."""
        return await self._accepts.add(Taken(row, attempt_id, provider_id))

    async def _accept_many(self, taken: Sequence[Taken]) -> list[Settled]:
        rows = await self._pool.fetch(
            f"""
            with given as (
                select * from unnest($3::uuid[], $4::uuid[], $5::smallint[], $6::text[],
                    $7::uuid[], $8::text[])
                    as g (message_id, recipient_id, part, account, attempt, provider_id)
            ), told as (
                update ledger.delivery d set state = 'sent', provider_id = g.provider_id,
                    error_code = null, error_detail = null, settled_at = clock_timestamp(),
                    reported = false
                from given g
                where d.message_id = g.message_id and d.recipient_id = g.recipient_id
                    and d.channel = $1 and d.part = g.part and d.attempt_id = g.attempt
                    and (d.state <> 'failed' or d.error_code = $2)
                returning attempt_id, {_qualified(_REPORT)}
            ), linked as (
                insert into ledger.provider_message as p
                    (channel, account, provider_id, message_id, recipient_id, part)
                select distinct on (account, provider_id)
                    $1, account, provider_id, message_id, recipient_id, part from given
                on conflict (channel, account, provider_id) do update set
                    message_id = excluded.message_id, recipient_id = excluded.recipient_id,
                    part = excluded.part
                returning account, provider_id, parked
            )
            select g.attempt, l.parked, t.* from given g
            join linked l on l.account = g.account and l.provider_id = g.provider_id
            left join told t on t.attempt_id = g.attempt
            """,  # noqa: S608 - a constant list of columns
            self._channel,
            OUTCOME_UNKNOWN,
            [one.row.message_id for one in taken],
            [one.row.recipient_id for one in taken],
            [one.row.part for one in taken],
            [one.row.account for one in taken],
            [one.attempt_id for one in taken],
            [one.provider_id for one in taken],
        )
        settled = {row["attempt"]: _settled(row) for row in rows}
        return [settled[one.attempt_id] for one in taken]

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


def _qualified(columns: str) -> str:
    return ", ".join(f"d.{column.strip()}" for column in columns.split(","))


def _settled(row: Any) -> Settled:
    values = dict(row)
    early = msgspec.json.decode(values.pop("parked"), type=list[EarlyStatus])
    known_before = values.pop("attempt_id") is None
    del values["attempt"]
    return Settled(None if known_before else _report(values), early)


def _report(row: Any) -> Report:
    values = dict(row)
    state, at = values.pop("state"), values.pop("settled_at")
    return Report(**values, status=_STATUS[state], at=at)
