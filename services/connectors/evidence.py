"""What webhooks prove: whose status it is, and how a send ended whose answer was lost."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from services.connectors.base import InboundMessage, Reference, StatusUpdate
from services.connectors.outcomes import standing
from services.connectors.rows import EarlyStatus
from services.contracts.ids import inbound_id
from services.contracts.records import Reason, StatusChanged
from services.contracts.status import OUTCOME_UNKNOWN, Status, rank
from services.runtime.postgres import Pool, Postgres


class _Subject(Struct, frozen=True, kw_only=True):
    """The delivery that a status is about.

    `current` says that its latest attempt is meant: what failed earlier proves nothing any more.
    """

    message_id: UUID
    recipient_id: UUID
    conversation_id: UUID
    part: int
    parts: int
    replay_no: int
    settled: bool = True
    current: bool = True


class Parked(Struct, frozen=True, kw_only=True):
    """Statuses of a message that nobody sent, as far as is known after a long wait."""

    account: str
    provider_id: str
    statuses: list[EarlyStatus]


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
        subjects = await self._by_provider_id(account, {update.provider_id for update in updates})
        references = {
            update.provider_id: reference
            for update in updates
            if update.provider_id not in subjects
            and (reference := Reference.parse(update.reference)) is not None
        }
        named = await self._by_reference(references)
        for update in updates:
            subject = named.get(update.provider_id)
            if subject is not None and not subject.settled:
                await self._settle(account, update, subject)
        subjects |= named
        for update in updates:
            if update.provider_id not in subjects:
                subjects |= await self._park(account, update)
        return [
            changed
            for update in updates
            if (subject := subjects.get(update.provider_id)) is not None
            and (subject.current or update.status is not Status.FAILED)
            and (changed := await self._changed(subject, update)) is not None
        ]

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

    async def expire(self, age_s: float) -> list[Parked]:
        """Forget what nobody claimed for so long; return the statuses that were among it."""
        rows = await self._pool.fetch(
            """
            delete from ledger.provider_message
            where channel = $1 and message_id is null
                and created_at < clock_timestamp() - $2 * interval '1 second'
            returning account, provider_id, parked
            """,
            self._channel,
            age_s,
        )
        found = [
            Parked(
                account=row["account"],
                provider_id=row["provider_id"],
                statuses=msgspec.json.decode(row["parked"], type=list[EarlyStatus]),
            )
            for row in rows
        ]
        return [parked for parked in found if parked.statuses]

    async def _by_reference(self, references: dict[str, Reference]) -> dict[str, _Subject]:
        if not references:
            return {}
        rows = await self._pool.fetch(
            """
            select n.provider_id, d.message_id, d.recipient_id, d.conversation_id, d.part, d.parts,
                d.replay_no, d.attempt_id is not distinct from n.attempt_id as current,
                (d.state in ('sent', 'failed') and d.error_code is distinct from $7) as settled
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
                p.replay_no
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

    async def _settle(self, account: str, update: StatusUpdate, subject: _Subject) -> None:
        """Let a status decide an outcome that is open, and link it to the provider's id.

        Whatever the provider says of a message proves that it has it, so that it is not sent
        again; only that it failed says nothing of attempts made since.
        """
        failed = update.status is Status.FAILED
        if failed and not subject.current:
            return
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                """
                update ledger.delivery set state = $5, provider_id = $6, error_code = $7,
                    error_detail = $8, settled_at = clock_timestamp()
                where message_id = $1 and recipient_id = $2 and channel = $3 and part = $4
                    and (state in ('pending', 'sending', 'unknown') or error_code = $9)
                """,
                subject.message_id,
                subject.recipient_id,
                self._channel,
                subject.part,
                "failed" if failed else "sent",
                update.provider_id,
                update.reason.code if failed and update.reason else None,
                update.reason.detail if failed and update.reason else None,
                OUTCOME_UNKNOWN,
            )
            await connection.execute(
                """
                insert into ledger.provider_message as p
                    (channel, account, provider_id, message_id, recipient_id, part, replay_no)
                values ($1, $2, $3, $4, $5, $6, $7)
                on conflict (channel, account, provider_id) do update set
                    message_id = excluded.message_id, recipient_id = excluded.recipient_id,
                    part = excluded.part, replay_no = excluded.replay_no
                    where p.message_id is null
                """,
                self._channel,
                account,
                update.provider_id,
                subject.message_id,
                subject.recipient_id,
                subject.part,
                subject.replay_no,
            )

    async def _park(self, account: str, update: StatusUpdate) -> dict[str, _Subject]:
        """Keep a status whose message is not known yet; return the message if it is by now."""
        early = EarlyStatus(status=update.status, at=update.at, reason=update.reason)
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
            msgspec.json.encode([early]).decode(),
        )
        return await self._by_provider_id(account, [update.provider_id]) if linked else {}

    async def _changed(self, subject: _Subject, update: StatusUpdate) -> StatusChanged | None:
        """Return what a status tells the users; of a delivery in parts, what all of them prove."""
        if subject.parts == 1:
            return status_changed(self._channel, subject, update)
        await self._pool.execute(
            """
            update ledger.delivery set proven = greatest(proven, $5),
                state = case when $6::text is null then state else 'failed' end,
                error_code = coalesce($6, error_code), error_detail = coalesce($7, error_detail)
            where message_id = $1 and recipient_id = $2 and channel = $3 and part = $4
            """,
            subject.message_id,
            subject.recipient_id,
            self._channel,
            subject.part,
            rank(update.status),
            _failure(update).code if update.status is Status.FAILED else None,
            _failure(update).detail if update.status is Status.FAILED else None,
        )
        whole = await standing(self._pool, self._channel, subject.message_id, subject.recipient_id)
        if whole.status is None:
            return None
        return status_changed(
            self._channel,
            subject,
            EarlyStatus(status=whole.status, at=update.at, reason=whole.reason),
        )


def _failure(update: StatusUpdate) -> Reason:
    return update.reason or Reason("provider_failed", "The provider gave no reason.")


def _subjects(rows: Iterable[Any]) -> dict[str, _Subject]:
    return {
        row["provider_id"]: _Subject(**{k: v for k, v in row.items() if k != "provider_id"})
        for row in rows
    }


def status_changed(channel: str, subject: Any, status: StatusUpdate | EarlyStatus) -> StatusChanged:
    """Return the record of a provider's status about a delivery."""
    return StatusChanged(
        message_id=subject.message_id,
        conversation_id=subject.conversation_id,
        recipient_id=subject.recipient_id,
        channel=channel,
        status=status.status,
        at=status.at,
        observed_at=datetime.now(UTC),
        reason=status.reason,
        replay_no=subject.replay_no,
    )
