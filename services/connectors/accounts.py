"""The accounts of a channel: checked at the provider before they send, and again when refused."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec

from services.connectors import http
from services.connectors.base import Connector, NotWritten, SendError, Unanswered, Verdict
from services.contracts.channels import STATES_PREFIX, AccountState, AccountStatus, ChannelState
from services.runtime.app import App
from services.runtime.telemetry.log import log

RECHECK_S = 2.0
"""How soon an account is checked again that may not send, or of which Consul was not told."""
RENEW_S = 300.0
"""How often a good account is checked."""
_GOOD_ONCE = (AccountStatus.ENABLED, AccountStatus.SUSPENDED)
_log = log(__name__)


class Accounts:
    """Knows which accounts may send, and tells the other services through Consul."""

    def __init__(self, app: App[Any], connector: Connector) -> None:
        self._consul = app.consul
        self._connector = connector
        self._states: dict[str, AccountState] = {}
        self._published: dict[str, tuple[AccountStatus, str | None]] = {}
        self._usable = {name: asyncio.Event() for name in connector.accounts}
        self._doubted = {name: asyncio.Event() for name in connector.accounts}
        for name in connector.accounts:
            self._set(name, AccountStatus.UNCHECKED, None)
            app.spawn(f"check-{name}", self._watch(name))

    async def usable(self, name: str) -> None:
        """Return when an account may send."""
        await self._usable[name].wait()

    def knows(self, name: str) -> bool:
        """Tell whether the channel has this account."""
        return name in self._usable

    def doubt(self, name: str, error: SendError) -> None:
        """Stop an account because the provider refused it; it is checked again at once."""
        self._set(name, AccountStatus.REFUSED, error.detail)
        self._doubted[name].set()

    async def answers(self, name: str) -> bool:
        """Tell whether the provider is well enough to answer for an account's credentials."""
        http.current.set(None)
        try:
            error = await self._connector.check_credentials(name)
        except (NotWritten, Unanswered):
            return False
        return error is None or error.verdict not in (Verdict.RETRYABLE, Verdict.AMBIGUOUS)

    async def _watch(self, name: str) -> None:
        while True:
            await self._check(name)
            told = await self._publish()
            pause = RENEW_S if told and self._usable[name].is_set() else RECHECK_S
            try:
                async with asyncio.timeout(pause):
                    await self._doubted[name].wait()
                await self._publish()
                await asyncio.sleep(RECHECK_S)
            except TimeoutError:
                continue
            self._doubted[name].clear()

    async def _check(self, name: str) -> None:
        try:
            error = await self._connector.check_credentials(name)
        except (NotWritten, Unanswered) as reason:
            _log.warning("provider_not_reached", account=name, detail=str(reason))
            return
        if error is None:
            self._set(name, AccountStatus.ENABLED, None)
        elif error.verdict is Verdict.ACCOUNT:
            self._set(name, AccountStatus.REFUSED, error.detail)
        else:
            _log.warning("credentials_not_checked", account=name, code=error.code)

    def _set(self, name: str, status: AccountStatus, detail: str | None) -> None:
        before = self._states.get(name)
        if status is AccountStatus.REFUSED and before is not None and before.status in _GOOD_ONCE:
            status = AccountStatus.SUSPENDED
        self._states[name] = AccountState(
            status=status, checked_at=datetime.now(UTC), detail=detail
        )
        if status is AccountStatus.ENABLED:
            self._usable[name].set()
        else:
            self._usable[name].clear()

    async def _publish(self) -> bool:
        """Write the channel's state to Consul when it changed; False is made up for later.

        What is not checked yet is no news: another instance may know better.
        """
        current = {name: (state.status, state.detail) for name, state in self._states.items()}
        if current == self._published:
            return True
        state = ChannelState(
            channel=self._connector.name,
            capabilities=self._connector.capabilities,
            accounts=self._states,
        )
        unchecked = any(s.status is AccountStatus.UNCHECKED for s in self._states.values())
        try:
            await self._consul.put(
                STATES_PREFIX + state.channel, msgspec.json.encode(state), only_new=unchecked
            )
        except (OSError, TimeoutError) as error:
            _log.warning("channel_state_not_published", error=repr(error))
            return False
        self._published = current
        _log.info("channel_state", enabled=state.enabled)
        return True
