"""What came of attempts: kept in the ledger, and found again by who has to tell the users."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from services.connectors.base import StatusUpdate
from services.connectors.parts import Part, Standing, combine
from services.connectors.rows import Report, Row, Settled, Taken
from services.contracts.records import Attempt, Reason
from services.contracts.status import OUTCOME_UNKNOWN, Status, rank
from services.runtime.batches import Batches
from services.runtime.postgres import Pool, Postgres

BATCH_MAX = 100
GATHER_S, PACE_S = 0.005, 0.05
"""Results that come this close together share a write, on a busy machine the latter."""
_SENT = rank(Status.SENT)
EARLIER_PART_FAILED = "earlier_part_failed"

_REPORT = (
    "d.message_id, d.recipient_id, d.part, d.parts, d.conversation_id, d.account, d.replay_no,"
    " d.state, d.proven, d.settled_at, d.error_code, d.error_detail, d.attempt_log, d.traceparent"
)
_attempts = msgspec.json.Decoder(tuple[Attempt, ...])
_statuses = msgspec.json.Decoder(list[StatusUpdate])


class Outcomes:
    """One channel's results. A result whose attempt matches is evidence, whoever owns the row."""

    def __init__(self, postgres: Postgres, channel: str) -> None:
        self._postgres = postgres
        self._channel = channel
        self._accepts: Batches[Taken, Settled] = Batches(
            self._accept_many, BATCH_MAX, PACE_S, gather_s=GATHER_S
        )

    @property
    def _pool(self) -> Pool:
        return self._postgres.pool

    async def accepted(self, row: Row, attempt_id: UUID, provider_id: str) -> Settled:
        """Store that the provider took the message; return the report and early statuses.

        That counts whatever became of the row meanwhile, unless it was replayed or failed for
        certain: it is not sent again, then.
        """
        settled = await self._accepts.add(Taken(row, attempt_id, provider_id))
        return await self._whole(settled)

    async def _accept_many(self, taken: Sequence[Taken]) -> list[Settled]:
        rows = await self._pool.fetch(
            f"""
            with given as (
                select * from unnest($3::uuid[], $4::uuid[], $5::smallint[], $6::text[],
                    $7::uuid[], $8::text[], $9::int[])
                    as g (message_id, recipient_id, part, account, attempt, provider_id, replay_no)
            ), told as (
                update ledger.delivery d set state = 'sent', provider_id = g.provider_id,
                    error_code = null, error_detail = null, settled_at = clock_timestamp(),
                    reported = false
                from given g
                where d.message_id = g.message_id and d.recipient_id = g.recipient_id
                    and d.channel = $1 and d.part = g.part and d.replay_no = g.replay_no
                    and (d.state in ('pending', 'sending', 'unknown') or d.error_code = $2
                        or (d.state = 'sent' and d.attempt_id = g.attempt))
                returning g.attempt as told_of, {_REPORT}
            ), linked as (
                -- Who locks both rows locks the delivery first: so does evidence.
                insert into ledger.provider_message as p
                    (channel, account, provider_id, message_id, recipient_id, part, replay_no)
                select distinct on (account, provider_id)
                    $1, account, provider_id, message_id, recipient_id, part, replay_no
                from given, (select count(*) from told) as first
                on conflict (channel, account, provider_id) do update set
                    message_id = excluded.message_id, recipient_id = excluded.recipient_id,
                    part = excluded.part, replay_no = excluded.replay_no
                returning account, provider_id, parked
            )
            select g.attempt, l.parked, t.* from given g
            join linked l on l.account = g.account and l.provider_id = g.provider_id
            left join told t on t.told_of = g.attempt
            """,  # noqa: S608 - a constant list of columns
            self._channel,
            OUTCOME_UNKNOWN,
            [one.row.message_id for one in taken],
            [one.row.recipient_id for one in taken],
            [one.row.part for one in taken],
            [one.row.account for one in taken],
            [one.attempt_id for one in taken],
            [one.provider_id for one in taken],
            [one.row.replay_no for one in taken],
        )
        settled = {
            row["attempt"]: (
                None if row["told_of"] is None else _report(row),
                _statuses.decode(row["parked"]),
            )
            for row in rows
        }
        return [Settled(one.row.account, *settled[one.attempt_id]) for one in taken]

    async def refused(self, row: Row, attempt_id: UUID, reason: Reason) -> Settled:
        """Store that the message will not be delivered, nor the parts behind this one.

        A row that a successor called unknown meanwhile is settled by this too.
        """
        return await self._settle(row, attempt_id, ("sending", "unknown"), "failed", reason)

    async def unanswered(self, row: Row, attempt_id: UUID, reason: Reason) -> Settled:
        """Store that a claimed send may or may not have had effect."""
        return await self._settle(row, attempt_id, ("sending",), "unknown", reason)

    async def _settle(
        self, row: Row, attempt_id: UUID, states: Sequence[str], state: str, reason: Reason
    ) -> Settled:
        async with self._pool.acquire() as connection, connection.transaction():
            found = await connection.fetchrow(
                f"""
                update ledger.delivery d set state = $6, error_code = $7, error_detail = $8,
                    attempt_log = attempt_log || jsonb_build_object(
                        'at', clock_timestamp(), 'code', $7::text, 'detail', $8::text),
                    settled_at = clock_timestamp(), reported = false
                where message_id = $1 and recipient_id = $2 and channel = $3 and part = $4
                    and attempt_id = $5 and state = any($9)
                returning {_REPORT}
                """,  # noqa: S608 - a constant list of columns
                row.message_id,
                row.recipient_id,
                self._channel,
                row.part,
                attempt_id,
                state,
                reason.code,
                reason.detail,
                states,
            )
            if found is not None and state == "failed":
                await stop_later_parts(
                    connection, self._channel, row.message_id, row.recipient_id, row.part
                )
        report = None if found is None else _report(found)
        return await self._whole(Settled(row.account, report, []))

    async def give_up(self, partitions: Sequence[int], deadline_s: float) -> list[Settled]:
        """Fail the rows of partitions whose outcome stayed unknown for too long."""
        rows = await self._pool.fetch(
            f"""
            update ledger.delivery d set state = 'failed', error_code = $4, reported = false,
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
        return [await self._whole(Settled(row["account"], _report(row), [])) for row in rows]

    async def unreported(self, partitions: Sequence[int], age_s: float = 0.0) -> list[Settled]:
        """Return what somebody stored so long ago, but may not have told."""
        return await self._find(
            "d.partition = any($2) and not d.reported"
            " and d.settled_at <= clock_timestamp() - $3 * interval '1 second'",
            list(partitions),
            age_s,
        )

    async def settled(self, message_id: UUID, recipient_id: UUID, part: int) -> list[Settled]:
        """Return what a row that was settled says now."""
        where = "d.message_id = $2 and d.recipient_id = $3 and d.part = $4"
        return await self._find(where, message_id, recipient_id, part)

    async def _find(self, where: str, *values: object) -> list[Settled]:
        rows = await self._pool.fetch(
            f"select {_REPORT}, coalesce(p.parked, '[]') as parked"  # noqa: S608 - constants
            " from ledger.delivery d left join ledger.provider_message p on p.channel = d.channel"
            " and p.account = d.account and p.provider_id = d.provider_id"
            f" where d.channel = $1 and d.state in ('sent', 'failed', 'unknown') and {where}",
            self._channel,
            *values,
        )
        return [
            await self._whole(
                Settled(row["account"], _report(row), _statuses.decode(row["parked"]))
            )
            for row in rows
        ]

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

    async def depth(self) -> dict[str, int]:
        """Return how many rows of the channel are in each unfinished state."""
        rows = await self._pool.fetch(
            "select state, count(*) as rows from ledger.delivery where channel = $1"
            " and state in ('pending', 'sending', 'unknown') group by state",
            self._channel,
        )
        return {row["state"]: row["rows"] for row in rows}

    async def _whole(self, settled: Settled) -> Settled:
        """Return the report of a delivery to which a part's belongs."""
        report = settled.report
        if report is None or report.parts == 1:
            return settled
        whole = await standing(self._pool, self._channel, report.message_id, report.recipient_id)
        return settled._replace(
            report=replace(
                report,
                status=whole.status,
                reason=whole.reason,
                attempts=whole.attempts,
                replay_no=whole.replay_no,
            )
        )


async def stop_later_parts(
    connection: Any, channel: str, message_id: UUID, recipient_id: UUID, part: int
) -> None:
    """Let the parts behind one that failed fail too, unless they are under way."""
    await connection.execute(
        """
        update ledger.delivery set state = 'failed', error_code = $5,
            error_detail = 'It was not sent because an earlier part failed.',
            settled_at = clock_timestamp()
        where message_id = $1 and recipient_id = $2 and channel = $3 and part > $4
            and state = 'pending'
        """,
        message_id,
        recipient_id,
        channel,
        part,
        EARLIER_PART_FAILED,
    )


async def standing(pool: Pool, channel: str, message_id: UUID, recipient_id: UUID) -> Standing:
    """Return where all parts of a delivery together stand."""
    rows = await pool.fetch(
        "select part, state, replay_no, proven, error_code, error_detail, attempt_log"
        " from ledger.delivery"
        " where message_id = $1 and recipient_id = $2 and channel = $3 order by part",
        message_id,
        recipient_id,
        channel,
    )
    return combine([_part(row) for row in rows])


def _part(row: Any) -> Part:
    code = row["error_code"]
    return Part(
        part=row["part"],
        state=row["state"],
        replay_no=row["replay_no"],
        proven=row["proven"],
        reason=Reason(code, row["error_detail"] or "") if code is not None else None,
        attempts=_attempts.decode(row["attempt_log"]),
    )


def _report(row: Any) -> Report:
    # As all ends that are good do; only what went wrong needs to be looked at more closely.
    is_sent = row["state"] == "sent" and row["proven"] <= _SENT
    alone = Standing(Status.SENT, row["replay_no"]) if is_sent else combine([_part(row)])
    return Report(
        message_id=row["message_id"],
        recipient_id=row["recipient_id"],
        part=row["part"],
        parts=row["parts"],
        conversation_id=row["conversation_id"],
        replay_no=row["replay_no"],
        status=alone.status,
        at=row["settled_at"],
        reason=alone.reason,
        attempts=alone.attempts,
        traceparent=row["traceparent"],
    )
