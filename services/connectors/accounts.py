"""The accounts of a channel: checked at the provider before they send, and again when refused."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from services.connectors import http
from services.connectors.base import Connector, NotWritten, SendError, Unanswered, Verdict
from services.contracts.channels import (
    STATES_PREFIX,
    AccountError,
    AccountState,
    AccountStatus,
    ChannelState,
    Quota,
)
from services.runtime.app import App
from services.runtime.telemetry.log import log

RECHECK_S = 2.0
"""How soon an account is checked again that may not send, or of which Consul was not told."""
RENEW_S = 300.0
"""How often a good account is checked."""
TELL_S = 10.0
"""How soon after one error of an account another is told of: a provider can fail very often."""
_GOOD_ONCE = (AccountStatus.ENABLED, AccountStatus.SUSPENDED)
_EVER = datetime.min.replace(tzinfo=UTC)
"""Stands for when an account was checked where that makes no difference."""
_log = log(__name__)


class Accounts:
    """Knows which accounts may send, and tells the other services through Consul."""

    def __init__(self, app: App[Any], connector: Connector) -> None:
        self._consul = app.consul
        self._connector = connector
        self._states: dict[str, AccountState] = {}
        self._quota = Quota(profile=app.config.quota_profile, **asdict(connector.limits))
        self._published: dict[str, AccountState] = {}
        self._noted = asyncio.Event()
        self._usable = {name: asyncio.Event() for name in connector.accounts}
        self._doubted = {name: asyncio.Event() for name in connector.accounts}
        for name in connector.accounts:
            self._set(name, AccountStatus.UNCHECKED, None)
            app.spawn(f"check-{name}", self._watch(name))
        app.spawn("tell-errors", self._tell_errors())

    async def usable(self, name: str) -> None:
        """Return when an account may send."""
        await self._usable[name].wait()

    def is_usable(self, name: str) -> bool:
        """Tell whether an account may send."""
        return self._usable[name].is_set()

    def knows(self, name: str) -> bool:
        """Tell whether the channel has this account."""
        return name in self._usable

    def note(self, name: str, error: SendError) -> None:
        """Keep an error as the account's last, unless it is about one message or recipient only."""
        throttled = error.verdict is Verdict.THROTTLED and not error.whole_account
        if throttled or error.verdict is Verdict.FINAL:
            return
        now, last = datetime.now(UTC), self._states[name].last_error
        lately = last is not None and now - last.at < timedelta(seconds=TELL_S)
        if lately and last is not None and (last.code, last.detail) == (error.code, error.detail):
            return
        last = AccountError(at=now, code=error.code, detail=error.detail)
        self._states[name] = replace(self._states[name], last_error=last)
        self._noted.set()

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
            self.note(name, _not_reached(reason))
            return
        if error is None:
            self._set(name, AccountStatus.ENABLED, None)
            return
        self.note(name, error)
        if error.verdict is Verdict.ACCOUNT:
            self._set(name, AccountStatus.REFUSED, error.detail)
        else:
            _log.warning("credentials_not_checked", account=name, code=error.code)

    def _set(self, name: str, status: AccountStatus, detail: str | None) -> None:
        before = self._states.get(name)
        if status is AccountStatus.REFUSED and before is not None and before.status in _GOOD_ONCE:
            status = AccountStatus.SUSPENDED
        self._states[name] = AccountState(
            status=status,
            checked_at=datetime.now(UTC),
            detail=detail,
            last_error=before.last_error if before is not None else None,
        )
        if status is AccountStatus.ENABLED:
            self._usable[name].set()
        else:
            self._usable[name].clear()

    async def _tell_errors(self) -> None:
        while True:
            await self._noted.wait()
            self._noted.clear()
            await self._publish()
            await asyncio.sleep(TELL_S)

    async def _publish(self) -> bool:
        """Write the channel's state to Consul when it changed; False is made up for later.

        What is not checked yet is no news: another instance may know better.
        """
        current = {name: replace(state, checked_at=_EVER) for name, state in self._states.items()}
        if current == self._published:
            return True
        state = ChannelState(
            channel=self._connector.name,
            capabilities=self._connector.capabilities,
            accounts=self._states,
            quota=self._quota,
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


def _not_reached(reason: NotWritten | Unanswered) -> SendError:
    return SendError(
        verdict=Verdict.RETRYABLE, code="provider_unreachable", detail=str(reason) or "No answer."
    )
