"""Echoes: a provider shows what went out from our account, which settles sends without answer.

An echo has no reference. It is matched by account, address and text, one to one and in order: by
the sends whose outcome is unknown when it comes, or by the next that turns out to be.
"""

import hashlib
from collections.abc import Sequence
from types import SimpleNamespace

import msgspec

from services.connectors.base import Echo
from services.connectors.evidence import status_changed
from services.connectors.rows import EarlyStatus, Row
from services.contracts.records import StatusChanged
from services.contracts.status import OUTCOME_UNKNOWN, Status
from services.runtime.postgres import Pool, Postgres

_SETTLE = """
    update ledger.delivery set state = 'sent', provider_id = $2, error_code = null,
        error_detail = null, settled_at = clock_timestamp()
    where (message_id, recipient_id, channel, part) in (
        select message_id, recipient_id, channel, part from ledger.delivery
        where channel = $1 and account = $3 and address = $4 and content = $5
            and (state = 'unknown' or (state = 'failed' and error_code = $6))
        order by position limit 1 for update skip locked)
    returning message_id, recipient_id, conversation_id, part, replay_no
"""
_LINK = """
    update ledger.provider_message
    set message_id = $4, recipient_id = $5, part = $6, replay_no = $7
    where channel = $1 and account = $2 and provider_id = $3
    returning parked
"""


class Echoes:
    """Matches one channel's echoes with its sends."""

    def __init__(self, postgres: Postgres, channel: str) -> None:
        self._postgres = postgres
        self._channel = channel

    @property
    def _pool(self) -> Pool:
        return self._postgres.pool

    async def place(self, account: str, echoes: Sequence[Echo]) -> list[StatusChanged]:
        """Settle what echoes prove, keep the others; return what is to be published."""
        return [changed for echo in echoes for changed in await self._place(account, echo)]

    async def match(self, row: Row) -> list[StatusChanged]:
        """Settle a send that has just become unknown by an echo that is there already."""
        waiting = await self._pool.fetchrow(
            """
            select account, provider_id, created_at from ledger.provider_message
            where channel = $1 and message_id is null and account = $2 and echo = $3
            order by created_at limit 1
            """,
            self._channel,
            row.account,
            _key(row.address, row.content),
        )
        if waiting is None:
            return []
        echo = Echo(
            provider_id=waiting["provider_id"],
            address=row.address,
            content=row.content,
            at=waiting["created_at"],
        )
        return await self._settle(row.account, echo)

    async def _place(self, account: str, echo: Echo) -> list[StatusChanged]:
        is_open = await self._pool.fetchval(
            """
            insert into ledger.provider_message as p (channel, account, provider_id, echo)
            values ($1, $2, $3, $4)
            on conflict (channel, account, provider_id) do update set echo = excluded.echo
            returning message_id is null
            """,
            self._channel,
            account,
            echo.provider_id,
            _key(echo.address, echo.content),
        )
        return await self._settle(account, echo) if is_open else []

    async def _settle(self, account: str, echo: Echo) -> list[StatusChanged]:
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                _SETTLE,
                self._channel,
                echo.provider_id,
                account,
                echo.address,
                echo.content,
                OUTCOME_UNKNOWN,
            )
            if row is None:
                return []
            parked = await connection.fetchval(
                _LINK,
                self._channel,
                account,
                echo.provider_id,
                row["message_id"],
                row["recipient_id"],
                row["part"],
                row["replay_no"],
            )
        sent = EarlyStatus(status=Status.SENT, at=echo.at)
        waited = msgspec.json.decode(parked, type=list[EarlyStatus])
        subject = SimpleNamespace(**row)
        return [status_changed(self._channel, subject, status) for status in (sent, *waited)]


def _key(address: str, content: str) -> str:
    return f"{hashlib.sha256(content.encode()).hexdigest()} {address}"
