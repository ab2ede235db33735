"""Echoes: a provider shows what went out from our account, which settles sends without answer.

An echo has no reference. It is matched by account, address and text, one to one and in order,
with a send that was claimed before it came and whose outcome is unknown. While the answer to
another send of the same text is awaited it may be that one's: then it waits, and is looked at
again and again until somebody claims it.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from services.connectors.base import Echo
from services.connectors.outcomes import Outcomes
from services.connectors.rows import Settled
from services.contracts.status import OUTCOME_UNKNOWN
from services.runtime.postgres import Pool, Postgres

LOOK_MAX = 100
_DIGEST_LENGTH = 64
# The echo's send may be among these; said in the words of the index `in_doubt`.
_IN_DOUBT = f"""
    (d.state in ('sending', 'unknown') or (d.state = 'pending' and d.at_least_once)
        or d.error_code = '{OUTCOME_UNKNOWN}')
"""
_SAME = f"""
    d.channel = p.channel and d.account = p.account
        and d.address = substr(p.echo, {_DIGEST_LENGTH + 2})
        and encode(sha256(convert_to(d.content, 'UTF8')), 'hex') = left(p.echo, {_DIGEST_LENGTH})
        and {_IN_DOUBT} and d.claimed_at <= p.created_at
        and (d.state <> 'pending' or d.attempts > 0)
"""
_LOOK = f"""
    select p.account, p.provider_id, p.echo
    from ledger.provider_message p
    where p.channel = $1 and p.message_id is null and p.echo is not null
        and ($2::text is null or (p.account = $2 and p.provider_id = $3))
        and exists (select from ledger.delivery d where {_SAME} and d.state <> 'sending')
        and not exists (select from ledger.delivery d where {_SAME} and d.state = 'sending')
    order by p.created_at, p.provider_id limit $4
"""  # noqa: S608 - constants
_CLAIM = f"""
    with settled as (
        update ledger.delivery set state = 'sent', provider_id = $3, error_code = null,
            error_detail = null, settled_at = clock_timestamp(), reported = false
        where (message_id, recipient_id, channel, part) in (
            select d.message_id, d.recipient_id, d.channel, d.part
            from ledger.delivery d, ledger.provider_message p
            where p.channel = $1 and p.account = $2 and p.provider_id = $3
                and p.message_id is null and {_SAME} and d.state <> 'sending'
            order by d.position limit 1)
            and (state in ('unknown', 'pending') or error_code = '{OUTCOME_UNKNOWN}')
        returning message_id, recipient_id, part, replay_no
    ), linked as (
        update ledger.provider_message p set message_id = s.message_id,
            recipient_id = s.recipient_id, part = s.part, replay_no = s.replay_no
        from settled s
        where p.channel = $1 and p.account = $2 and p.provider_id = $3 and p.message_id is null
        returning true
    )
    select message_id, recipient_id, part, exists (select from linked) as linked from settled
"""  # noqa: S608 - constants


class _Answered(Exception):  # noqa: N818 - undoes a claim
    """An answer has told meanwhile whose message it is."""


class Echoes:
    """Matches one channel's echoes with its sends."""

    def __init__(self, postgres: Postgres, outcomes: Outcomes, channel: str) -> None:
        self._postgres = postgres
        self._outcomes = outcomes
        self._channel = channel

    @property
    def _pool(self) -> Pool:
        return self._postgres.pool

    async def place(self, account: str, echoes: Sequence[Echo]) -> list[Settled]:
        """Keep the echoes of what has no answer yet; return what they settle at once."""
        keys = {echo.provider_id: _key(echo.address, echo.content) for echo in echoes}
        if not keys:
            return []
        # In the order of their names: whoever else writes several of them does that too.
        kept = await self._pool.fetch(
            """
            insert into ledger.provider_message as p (channel, account, provider_id, echo)
            select $1, $2, name, key from unnest($3::text[], $4::text[]) as e (name, key)
            order by name
            on conflict (channel, account, provider_id) do update set echo = excluded.echo
                where p.message_id is null
            returning provider_id
            """,
            self._channel,
            account,
            list(keys),
            list(keys.values()),
        )
        is_open = {row["provider_id"] for row in kept}
        return [
            settled
            for name in keys
            if name in is_open
            for settled in await self._look(account, name)
        ]

    async def look(self) -> list[Settled]:
        """Return what is settled by echoes that wait."""
        return await self._look(None, None)

    async def _look(self, account: str | None, provider_id: str | None) -> list[Settled]:
        found = await self._pool.fetch(_LOOK, self._channel, account, provider_id, LOOK_MAX)
        return [settled for echo in found for settled in await self._claim(echo)]

    async def _claim(self, echo: Any) -> list[Settled]:
        """Let an echo settle the first send that it may show; none if an answer was faster."""
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(
                    "select pg_advisory_xact_lock(hashtextextended($1, 0))", echo["echo"]
                )
                row = await connection.fetchrow(
                    _CLAIM, self._channel, echo["account"], echo["provider_id"]
                )
                if row is None:
                    return []
                if not row["linked"]:
                    raise _Answered  # noqa: TRY301 - rolls the claim back
        except _Answered:
            return []
        return await self._outcomes.settled(row["message_id"], row["recipient_id"], row["part"])


def _key(address: str, content: str) -> str:
    return f"{hashlib.sha256(content.encode()).hexdigest()} {address}"
