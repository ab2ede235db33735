"""The delivery ledger: decides whether a send may happen.

States of a row: pending -> sending (claimed under the partition's epoch) -> sent | failed |
unknown | pending again. A row that may be sent at once is claimed as it is stored. `unknown` and a
failure for lack of evidence give way to late evidence; a replay makes a failed row pending again,
at the tail of its lane. All times are the database's.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

from services.connectors.http import LEASE_S
from services.connectors.rows import Claim, Key, Lane, Row
from services.contracts.records import Reason
from services.runtime.batches import Batches
from services.runtime.postgres import Pool, Postgres

CLAIM_BOUND_S = 2 * LEASE_S + 0.5
"""After this long no byte of a claimed send can still be written: twice the lease and a margin."""
PENDING, SENDING = "pending", "sending"
"""As parameters of statements that know their rows: said there, it would be the condition of an
index of all unfinished rows, which is then read from end to end while it is small."""
BATCH_MAX = 100
PACE_S = 0.05
"""On a busy machine claims that come this close together share a write."""


class Ledger:
    """One channel's rows, as the one sees them who may send."""

    def __init__(self, postgres: Postgres, channel: str, instance: str) -> None:
        self._postgres = postgres
        self._channel = channel
        self._instance = instance
        self._claims: Batches[Claim, bool] = Batches(self._claim_many, BATCH_MAX, PACE_S)

    @property
    def _pool(self) -> Pool:
        return self._postgres.pool

    async def own(
        self, partitions: Sequence[int], held: dict[int, int], *, regain: bool = False
    ) -> dict[int, int]:
        """Make this instance the owner of partitions; return the epoch of each.

        An epoch in `held` that nobody has raised since is kept, so that what this instance has
        in flight stays its own; every other partition gets a new epoch. To `regain` takes only
        what its owner has released: from nobody who may be right.
        """
        rows = await self._pool.fetch(
            """
            insert into ledger.partition_owner as o (channel, partition, epoch, owner)
            select $1, p, 1, $2 from unnest($3::int[], $4::bigint[]) as a (p, held)
            on conflict (channel, partition) do update set
                epoch = o.epoch + 1, owner = excluded.owner, since = clock_timestamp()
                where (o.partition, o.epoch, o.owner) not in (
                    select p, held, $2 from unnest($3::int[], $4::bigint[]) as b (p, held))
                    and (not $5 or o.owner = '')
            returning partition, epoch
            """,
            self._channel,
            self._instance,
            list(partitions),
            [held.get(partition, 0) for partition in partitions],
            regain,
        )
        raised = {row["partition"]: row["epoch"] for row in rows}
        return {p: raised.get(p, held.get(p, 0)) for p in partitions}

    async def release(self, partitions: Sequence[int]) -> None:
        """Own these no more, those that nobody else has taken since."""
        await self._pool.execute(
            "update ledger.partition_owner set owner = '' where channel = $1"
            " and partition = any($2) and owner = $3",
            self._channel,
            list(partitions),
            self._instance,
        )

    async def take_in(
        self, new: Sequence[Row], claims: Mapping[Key, Claim] = MappingProxyType({})
    ) -> dict[Key, UUID | None]:
        """Store deliveries in their order; return which are to be sent now.

        These are the new ones, and failed ones that are replayed. A new one is claimed at once if
        there is a claim of it whose epoch holds: then its attempt is returned with it.
        """
        claimed = [claims.get(row.key) for row in new]
        rows = await self._pool.fetch(
            """
            insert into ledger.delivery as d (message_id, recipient_id, channel, part, parts,
                conversation_id, partition, account, address, content, reply_to, at_least_once,
                traceparent, accepted_at, replay_no, state, attempts, attempt_id, epoch, claimed_at)
            select m, r, $1, s, n, c, p, a, d, t, re, al, tr, at, rn,
                case when o.epoch is null then 'pending' else 'sending' end,
                case when o.epoch is null then 0 else 1 end,
                case when o.epoch is null then null else id end, o.epoch,
                case when o.epoch is null then null else clock_timestamp() end
            from unnest($2::uuid[], $3::uuid[], $4::smallint[], $5::smallint[], $6::uuid[],
                $7::int[], $8::text[], $9::text[], $10::text[], $11::uuid[], $12::bool[],
                $13::text[], $14::timestamptz[], $15::int[], $16::uuid[], $17::bigint[])
                with ordinality as n (m, r, s, n, c, p, a, d, t, re, al, tr, at, rn, id, ep, i)
            left join ledger.partition_owner o
                on o.channel = $1 and o.partition = p and o.epoch = ep and o.owner = $18
            order by i
            on conflict (message_id, recipient_id, channel, part) do update set
                state = 'pending', replay_no = excluded.replay_no, attempts = 0,
                attempt_id = null, next_attempt_at = null, position = excluded.position,
                account = excluded.account, address = excluded.address, proven = 0,
                attempt_log = '[]', error_code = null, error_detail = null, reported = true
                where d.state = 'failed' and d.replay_no < excluded.replay_no
            returning message_id, recipient_id, part, attempt_id
            """,
            self._channel,
            [row.message_id for row in new],
            [row.recipient_id for row in new],
            [row.part for row in new],
            [row.parts for row in new],
            [row.conversation_id for row in new],
            [row.partition for row in new],
            [row.account for row in new],
            [row.address for row in new],
            [row.content for row in new],
            [row.reply_to for row in new],
            [row.at_least_once for row in new],
            [row.traceparent for row in new],
            [row.accepted_at for row in new],
            [row.replay_no for row in new],
            [claim.attempt_id if claim else None for claim in claimed],
            [claim.epoch if claim else None for claim in claimed],
            self._instance,
        )
        return {
            (row["message_id"], row["recipient_id"], row["part"]): row["attempt_id"] for row in rows
        }

    async def lanes(
        self, partition: int, most: int, account: str | None = None
    ) -> list[tuple[Lane, str]]:
        """Return lanes of a partition that have unfinished rows, each with its account.

        For each account the `most` that wait longest, in that order; `account` names the only one
        that is wanted.
        """
        rows = await self._pool.fetch(
            """
            select conversation_id, recipient_id, account
            from (
                select *, row_number() over (partition by account order by position) as place
                from (
                    select distinct on (conversation_id, recipient_id)
                        conversation_id, recipient_id, account, position
                    from ledger.delivery
                    where channel = $1 and partition = $2 and state in ('pending', 'sending')
                    order by conversation_id, recipient_id, position
                ) as heads
                where $4::text is null or account = $4
            ) as lanes
            where place <= $3 order by position
            """,
            self._channel,
            partition,
            most,
            account,
        )
        return [
            (Lane(partition, row["conversation_id"], row["recipient_id"]), row["account"])
            for row in rows
        ]

    async def head(self, lane: Lane) -> Row | None:
        """Return the first unfinished row of a lane; None when there is none.

        It waits for its own time, and until no claim of the lane can still be written; what was
        claimed stands before it, or is it.
        """
        row = await self._pool.fetchrow(
            """
            select message_id, recipient_id, part, parts, conversation_id, partition, account,
                address, content, reply_to, at_least_once, traceparent, accepted_at, state,
                replay_no, attempts, attempt_id,
                greatest(0, extract(epoch from greatest(next_attempt_at, (
                    select max(claimed_at) + $1 * interval '1 second' from ledger.delivery c
                    where c.channel = $2 and c.partition = $3 and c.conversation_id = $4
                        and c.recipient_id = $5 and c.state in ('pending', 'sending', 'unknown')
                        and c.state <> 'pending' and c.position <= d.position
                )) - clock_timestamp()))::float8 as wait_s
            from ledger.delivery d
            where channel = $2 and partition = $3 and conversation_id = $4 and recipient_id = $5
                and state in ('pending', 'sending', 'unknown') and state <> 'unknown'
            order by position limit 1
            """,
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
                and d.channel = $1 and d.part = c.part and d.state = $8
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
            PENDING,
        )
        won = {row["attempt_id"] for row in rows}
        return [claim.attempt_id in won for claim in claims]

    async def put_back(
        self, row: Row, attempt_id: UUID, *, wait_s: float, failure: Reason | None = None
    ) -> bool:
        """Make a claimed row pending again, after a wait; without a failure it cost nothing.

        False says that the claim does not stand any more.
        """
        done = await self._pool.execute(
            """
            update ledger.delivery set state = 'pending', attempt_id = null,
                attempts = attempts - case when $7::text is null then 1 else 0 end,
                attempt_log = case when $7 is null then attempt_log
                    else attempt_log || jsonb_build_object(
                        'at', clock_timestamp(), 'code', $7, 'detail', $8::text) end,
                next_attempt_at = clock_timestamp() + $6 * interval '1 second'
            where message_id = $1 and recipient_id = $2 and channel = $3 and part = $4
                and attempt_id = $5 and state = $9
            """,
            row.message_id,
            row.recipient_id,
            self._channel,
            row.part,
            attempt_id,
            wait_s,
            failure.code if failure else None,
            failure.detail if failure else None,
            SENDING,
        )
        return str(done) == "UPDATE 1"

    async def provider_id_of(self, message_id: UUID, row: Row) -> str | None:
        """Return what the provider calls a message in a row's account, as its recipient has it."""
        found: str | None = await self._pool.fetchval(
            """
            select provider_id from ledger.provider_message
            where message_id = $1 and channel = $2 and account = $3
                and (recipient_id = $4 or recipient_id is null)
            order by part, replay_no desc limit 1
            """,
            message_id,
            self._channel,
            row.account,
            row.recipient_id,
        )
        return found
