"""What webhooks prove: whose status it is, and how a send ended whose answer was lost."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from services.connectors.base import InboundMessage, Reference, StatusUpdate, storable
from services.connectors.outcomes import standing, stop_later_parts
from services.connectors.parts import Standing
from services.contracts.ids import inbound_id
from services.contracts.records import Reason, StatusChanged
from services.contracts.status import OUTCOME_UNKNOWN, Status, rank
from services.runtime.postgres import Pool, Postgres

EXPIRE_MAX = 1000
_FAILED = rank(Status.FAILED)
# Where a row is then: whoever got it has it, else a failure stays, else the provider took it.
_STATE = """
    case when greatest(proven, $7) > $10 then 'sent'
        when $8::text is not null then 'failed'
        when state = 'failed' and error_code is distinct from $11 then 'failed'
        else 'sent' end
"""
_statuses = msgspec.json.Decoder(list[StatusUpdate])


class _Subject(Struct, frozen=True, kw_only=True):
    """The delivery that a status is about.

    `current` says that it is about the attempt that counts, `settled` that the outcome is known,
    `linked` that the provider's name of it is remembered.
    """

    message_id: UUID
    recipient_id: UUID
    conversation_id: UUID
    part: int
    parts: int
    replay_no: int
    current: bool
    settled: bool
    linked: bool

    def learns(self, status: Status) -> bool:
        """Tell whether a status says something of the delivery.

        Who got it has it, whichever attempt that was; an attempt that the provider took is not
        made again; but that an earlier one failed says nothing of those made since.
        """
        if rank(status) > _FAILED:
            return True
        return self.current or not (self.settled or status is Status.FAILED)


class Parked(Struct, frozen=True, kw_only=True):
    """Statuses of a message that nobody sent, as far as is known after a long wait.

    `count` is how many there were when this was read.
    """

    account: str
    provider_id: str
    count: int
    statuses: list[StatusUpdate]


class Evidence:
    """Places the updates of one channel's webhooks."""

    def __init__(self, postgres: Postgres, channel: str) -> None:
        self._postgres = postgres
        self._channel = channel

    @property
    def _pool(self) -> Pool:
        return self._postgres.pool

    async def place(self, account: str, updates: Sequence[StatusUpdate]) -> list[StatusChanged]:
        """Find whose statuses these are, settle open outcomes, park what is not known yet.

        Returns what is to be published; when it returns, all of it is durable here or there.
        """
        updates = [_storable(update) for update in updates]
        subjects = await self._by_provider_id(account, {update.provider_id for update in updates})
        subjects |= await self._by_reference(updates, subjects)
        changed: list[StatusChanged] = []
        for update in updates:
            name = update.provider_id
            if name not in subjects:
                subjects |= await self._park(account, update)
            if (subject := subjects.get(name)) is None:
                continue
            learns = subject.learns(update.status)
            waited: list[StatusUpdate] = []
            if not subject.linked:
                waited = await self._settle(account, subject, update, learns=learns)
                subjects[name] = replace(
                    subject, current=subject.current or learns, settled=True, linked=True
                )
            elif learns and (
                subject.parts > 1 or update.status is Status.FAILED or not subject.current
            ):
                await self._learn(self._pool, subject, update)
            if learns and (told := await self._changed(subject, update)) is not None:
                changed.append(told)
            if waited:
                changed += await self.place(account, waited)
        return changed

    async def name_inbound(
        self, account: str, messages: Sequence[InboundMessage]
    ) -> dict[str, UUID]:
        """Remember the provider's names of messages; return the ids of those they reply to."""
        await self._pool.execute(
            """
            insert into ledger.provider_message (channel, account, provider_id, message_id)
            select $1, $2, p, m from unnest($3::text[], $4::uuid[]) as n (p, m)
            on conflict do nothing
            """,
            self._channel,
            account,
            [message.provider_id for message in messages],
            [inbound_id(self._channel, account, message.provider_id) for message in messages],
        )
        replied = [m.reply_to_provider_id for m in messages if m.reply_to_provider_id]
        if not replied:
            return {}
        rows = await self._pool.fetch(
            "select provider_id, message_id from ledger.provider_message where channel = $1"
            " and account = $2 and provider_id = any($3) and message_id is not null",
            self._channel,
            account,
            replied,
        )
        return {row["provider_id"]: row["message_id"] for row in rows}

    async def unclaimed(self, age_s: float) -> list[Parked]:
        """Return what nobody has claimed for so long.

        Statuses of a message of which there was an echo are no riddle: another application, or a
        person, sent it through our account.
        """
        rows = await self._pool.fetch(
            """
            select account, provider_id, parked, echo is not null as elsewhere
            from ledger.provider_message
            where channel = $1 and message_id is null
                and created_at < clock_timestamp() - $2 * interval '1 second'
            order by created_at limit $3
            """,
            self._channel,
            age_s,
            EXPIRE_MAX,
        )
        return [
            Parked(
                account=row["account"],
                provider_id=row["provider_id"],
                count=len(statuses := _statuses.decode(row["parked"])),
                statuses=[] if row["elsewhere"] else statuses,
            )
            for row in rows
        ]

    async def forget(self, unclaimed: Sequence[Parked]) -> None:
        """Forget what nobody claimed, unless it was claimed or added to meanwhile."""
        await self._pool.execute(
            """
            delete from ledger.provider_message p
            using unnest($2::text[], $3::text[], $4::int[]) as u (account, provider_id, statuses)
            where p.channel = $1 and p.account = u.account and p.provider_id = u.provider_id
                and p.message_id is null and jsonb_array_length(p.parked) = u.statuses
            """,
            self._channel,
            [parked.account for parked in unclaimed],
            [parked.provider_id for parked in unclaimed],
            [parked.count for parked in unclaimed],
        )

    async def _by_reference(
        self, updates: Iterable[StatusUpdate], known: Mapping[str, object]
    ) -> dict[str, _Subject]:
        references = {
            update.provider_id: reference
            for update in updates
            if update.provider_id not in known
            and (reference := Reference.parse(update.reference)) is not None
        }
        if not references:
            return {}
        rows = await self._pool.fetch(
            """
            select n.provider_id, d.message_id, d.recipient_id, d.conversation_id, d.part, d.parts,
                d.replay_no, d.attempt_id is not distinct from n.attempt_id as current,
                d.state in ('sent', 'failed') and d.error_code is distinct from $7 as settled,
                false as linked
            from unnest($2::text[], $3::uuid[], $4::uuid[], $5::smallint[], $6::uuid[])
                as n (provider_id, message_id, recipient_id, part, attempt_id)
            join ledger.delivery d on d.message_id = n.message_id
                and d.recipient_id = n.recipient_id and d.channel = $1 and d.part = n.part
            """,
            self._channel,
            list(references),
            [reference.message_id for reference in references.values()],
            [reference.recipient_id for reference in references.values()],
            [reference.part for reference in references.values()],
            [reference.attempt_id for reference in references.values()],
            OUTCOME_UNKNOWN,
        )
        return _subjects(rows)

    async def _by_provider_id(self, account: str, names: Iterable[str]) -> dict[str, _Subject]:
        rows = await self._pool.fetch(
            """
            select p.provider_id, d.message_id, d.recipient_id, d.conversation_id, d.part, d.parts,
                p.replay_no, true as settled, true as linked,
                p.replay_no = d.replay_no and p.provider_id is not distinct from d.provider_id
                    as current
            from ledger.provider_message p
            join ledger.delivery d on d.message_id = p.message_id
                and d.recipient_id = p.recipient_id and d.channel = p.channel and d.part = p.part
            where p.channel = $1 and p.account = $2 and p.provider_id = any($3)
            """,
            self._channel,
            account,
            list(names),
        )
        return _subjects(rows)

    async def _settle(
        self, account: str, subject: _Subject, update: StatusUpdate, *, learns: bool
    ) -> list[StatusUpdate]:
        """Link a delivery with the provider's name of it; return the statuses that waited for that.

        If it learns from the status, that decides an outcome that is open: a row whose message the
        provider has is not sent again.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            if learns:
                await self._learn(connection, subject, update)
            waited = await connection.fetchval(
                """
                insert into ledger.provider_message as p
                    (channel, account, provider_id, message_id, recipient_id, part, replay_no)
                values ($1, $2, $3, $4, $5, $6, $7)
                on conflict (channel, account, provider_id) do update set
                    message_id = excluded.message_id, recipient_id = excluded.recipient_id,
                    part = excluded.part, replay_no = excluded.replay_no
                    where p.message_id is null
                returning parked
                """,
                self._channel,
                account,
                update.provider_id,
                subject.message_id,
                subject.recipient_id,
                subject.part,
                subject.replay_no,
            )
        return _statuses.decode(waited or "[]")

    async def _learn(self, connection: Any, subject: _Subject, update: StatusUpdate) -> None:
        """Bring a row to the highest that was ever proven of it, in whichever order that came."""
        failure = _failure(update) if update.status is Status.FAILED else None
        state = await connection.fetchval(
            f"""
            update ledger.delivery set state = {_STATE}, proven = greatest(proven, $7),
                provider_id = $6, settled_at = clock_timestamp(),
                error_code = case {_STATE} when 'failed' then coalesce($8, error_code) end,
                error_detail = case {_STATE} when 'failed' then coalesce($9, error_detail) end
            where message_id = $1 and recipient_id = $2 and channel = $3 and part = $4
                and replay_no = $5
            returning state
            """,  # noqa: S608 - constants
            subject.message_id,
            subject.recipient_id,
            self._channel,
            subject.part,
            subject.replay_no,
            update.provider_id,
            rank(update.status),
            failure and failure.code,
            failure and failure.detail,
            _FAILED,
            OUTCOME_UNKNOWN,
        )
        if state == "failed":
            await stop_later_parts(
                connection, self._channel, subject.message_id, subject.recipient_id, subject.part
            )

    async def _park(self, account: str, update: StatusUpdate) -> dict[str, _Subject]:
        """Keep a status whose message is not known yet; return the message if it is by now."""
        linked = await self._pool.fetchval(
            """
            insert into ledger.provider_message as p (channel, account, provider_id, parked)
            values ($1, $2, $3, $4::jsonb)
            on conflict (channel, account, provider_id) do update
                set parked = p.parked || excluded.parked
            returning message_id is not null
            """,
            self._channel,
            account,
            update.provider_id,
            msgspec.json.encode([update]).decode(),
        )
        return await self._by_provider_id(account, [update.provider_id]) if linked else {}

    async def _changed(self, subject: _Subject, update: StatusUpdate) -> StatusChanged | None:
        """Return what a status tells the users; of a delivery in parts, what all of them prove."""
        reason = _failure(update) if update.status is Status.FAILED else update.reason
        whole = Standing(update.status, subject.replay_no, reason)
        if subject.parts > 1:
            whole = await standing(
                self._pool, self._channel, subject.message_id, subject.recipient_id
            )
        if whole.status is None:
            return None
        return StatusChanged(
            message_id=subject.message_id,
            conversation_id=subject.conversation_id,
            recipient_id=subject.recipient_id,
            channel=self._channel,
            status=whole.status,
            at=update.at,
            observed_at=datetime.now(UTC),
            reason=whole.reason,
            replay_no=whole.replay_no,
            attempts=whole.attempts,
        )


def _storable(update: StatusUpdate) -> StatusUpdate:
    """Return a status without what PostgreSQL cannot keep: it counts all the same."""
    reason = update.reason and replace(update.reason, detail=storable(update.reason.detail))
    return replace(update, reference=storable(update.reference or ""), reason=reason)


def _failure(update: StatusUpdate) -> Reason:
    return update.reason or Reason("provider_failed", "The provider gave no reason.")


def _subjects(rows: Iterable[Any]) -> dict[str, _Subject]:
    return {
        row["provider_id"]: _Subject(**{k: v for k, v in row.items() if k != "provider_id"})
        for row in rows
    }
