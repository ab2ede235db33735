"""What webhooks prove: whose status it is, and how a send ended whose answer was lost."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from services.connectors.base import InboundMessage, Reference, StatusUpdate
from services.connectors.rows import EarlyStatus
from services.contracts.ids import inbound_id
from services.contracts.records import StatusChanged
from services.contracts.status import OUTCOME_UNKNOWN, Status
from services.runtime.postgres import Postgres


class _Subject(Struct, frozen=True, kw_only=True):
    """The delivery that a status is about."""

    message_id: UUID
    recipient_id: UUID
    conversation_id: UUID
    part: int
    replay_no: int
    settled: bool = True


class Evidence:
    """Places the updates of one channel's webhooks."""

    def __init__(self, postgres: Postgres, channel: str) -> None:
        self._postgres = postgres
        self._channel = channel

    async def place(self, account: str, updates: Sequence[StatusUpdate]) -> list[StatusChanged]:
        """Find whose statuses these are, settle open outcomes, park what is not known yet.

        Returns what is to be published; when it returns, all of it is durable here or there.
        """
        references = {u.provider_id: ref for u in updates if (ref := Reference.parse(u.reference))}
        subjects = await self._by_reference(references)
        open_ids = [name for name, subject in subjects.items() if not subject.settled]
        if open_ids:
            await self._settle(account, [u for u in updates if u.provider_id in open_ids], subjects)
        strangers = {u.provider_id for u in updates} - subjects.keys()
        if strangers:
            subjects |= await self._by_provider_id(account, strangers)
        for update in updates:
            if update.provider_id not in subjects:
                subjects |= await self._park(account, update)
        return [
            status_changed(self._channel, subjects[u.provider_id], u)
            for u in updates
            if u.provider_id in subjects
        ]

    async def name_inbound(
        self, account: str, messages: Sequence[InboundMessage]
    ) -> dict[str, UUID]:
        """Remember the provider's names of messages; return the ids of those they reply to."""
        await self._postgres.pool.execute(
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
        rows = await self._postgres.pool.fetch(
            "select provider_id, message_id from ledger.provider_message where channel = $1"
            " and account = $2 and provider_id = any($3) and message_id is not null",
            self._channel,
            account,
            replied,
        )
        return {row["provider_id"]: row["message_id"] for row in rows}

    async def _by_reference(self, references: dict[str, Reference]) -> dict[str, _Subject]:
        if not references:
            return {}
        rows = await self._postgres.pool.fetch(
            """
            select n.provider_id, d.message_id, d.recipient_id, d.conversation_id, d.part,
                d.replay_no,
                (d.state in ('sent', 'failed') and d.error_code is distinct from $6) as settled
            from unnest($2::text[], $3::uuid[], $4::uuid[], $5::smallint[])
                as n (provider_id, message_id, recipient_id, part)
            join ledger.delivery d on d.message_id = n.message_id
                and d.recipient_id = n.recipient_id and d.channel = $1 and d.part = n.part
            """,
            self._channel,
            list(references),
            [reference.message_id for reference in references.values()],
            [reference.recipient_id for reference in references.values()],
            [reference.part for reference in references.values()],
            OUTCOME_UNKNOWN,
        )
        return _subjects(rows)

    async def _by_provider_id(self, account: str, names: Iterable[str]) -> dict[str, _Subject]:
        rows = await self._postgres.pool.fetch(
            """
            select p.provider_id, d.message_id, d.recipient_id, d.conversation_id, d.part,
                d.replay_no
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
        self, account: str, updates: Sequence[StatusUpdate], subjects: dict[str, _Subject]
    ) -> None:
        """Let statuses decide outcomes that are open, and link them to the provider's ids."""
        for update in updates:
            subject = subjects[update.provider_id]
            failed = update.status is Status.FAILED
            async with self._postgres.pool.acquire() as connection, connection.transaction():
                await connection.execute(
                    """
                    update ledger.delivery set state = $5, provider_id = $6, error_code = $7,
                        error_detail = $8, settled_at = clock_timestamp()
                    where message_id = $1 and recipient_id = $2 and channel = $3 and part = $4
                        and (state in ('sending', 'unknown') or error_code = $9)
                    """,
                    subject.message_id,
                    subject.recipient_id,
                    self._channel,
                    subject.part,
                    "failed" if failed else "sent",
                    update.provider_id,
                    update.reason.code if update.reason else None,
                    update.reason.detail if update.reason else None,
                    OUTCOME_UNKNOWN,
                )
                await connection.execute(
                    """
                    insert into ledger.provider_message
                        (channel, account, provider_id, message_id, recipient_id, part)
                    values ($1, $2, $3, $4, $5, $6)
                    on conflict do nothing
                    """,
                    self._channel,
                    account,
                    update.provider_id,
                    subject.message_id,
                    subject.recipient_id,
                    subject.part,
                )

    async def _park(self, account: str, update: StatusUpdate) -> dict[str, _Subject]:
        """Keep a status whose message is not known yet; return the message if it is by now."""
        early = EarlyStatus(status=update.status, at=update.at, reason=update.reason)
        linked = await self._postgres.pool.fetchval(
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
