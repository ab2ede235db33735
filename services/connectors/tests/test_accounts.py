"""Accounts: stopped as soon as the provider refuses them, and back by themselves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from services.connectors import accounts as module
from services.connectors.accounts import Accounts
from services.connectors.base import NotWritten, SendError, Unanswered, Verdict
from services.contracts.channels import AccountStatus, Capabilities, ChannelState, Limits

LIMITS = Limits(account_per_s=30, account_burst=40, recipient_interval_s=6, recipient_burst=45)


def error(verdict: Verdict, code: str = "code", *, whole_account: bool = False) -> SendError:
    """Return an error of the provider."""
    return SendError(verdict=verdict, code=code, detail="Detail.", whole_account=whole_account)


class Site:
    """Accounts of a channel whose provider says what a test wants, and what Consul is told."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.says: SendError | Exception | None = None
        self.checks = 0
        self.told: list[ChannelState] = []
        self.consul_away = False
        connector = SimpleNamespace(
            name="TEST",
            accounts=("main",),
            capabilities=Capabilities(receipts=(), text_length_max=1),
            limits=LIMITS,
            check_credentials=self.check,
        )
        app = SimpleNamespace(
            config=SimpleNamespace(quota_profile="real"),
            spawn=self.spawn,
            consul=SimpleNamespace(put=self.put),
        )
        self.accounts = Accounts(cast("Any", app), cast("Any", connector))

    def spawn(self, _name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run a task."""
        self.tasks.append(asyncio.create_task(work))

    async def check(self, _account: str) -> SendError | None:
        """Say what the provider says now."""
        self.checks += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    async def put(self, _key: str, value: bytes, *, only_new: bool) -> None:
        """Keep what Consul is told, if it is there."""
        del only_new
        if self.consul_away:
            raise OSError("refused")
        self.told.append(msgspec.json.decode(value, type=ChannelState))

    def last(self) -> AccountStatus | None:
        """Return the state that was told last."""
        return self.told[-1].accounts["main"].status if self.told else None

    def trouble(self) -> str | None:
        """Return the code of the last error that was told."""
        found = self.told[-1].accounts["main"].last_error if self.told else None
        return found.code if found is not None else None

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(5):
            while not met():
                await asyncio.sleep(0.001)


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """Accounts that are checked often, and whose errors are told at once."""
    monkeypatch.setattr(module, "RECHECK_S", 0.01)
    monkeypatch.setattr(module, "TELL_S", 0.01)
    site = Site()
    yield site
    for task in site.tasks:
        task.cancel()
    await asyncio.gather(*site.tasks, return_exceptions=True)


async def test_a_refused_account_stops_at_once_and_comes_back(site: Site) -> None:
    """Consul is told both times, and who waits goes on; messages are taken meanwhile."""
    await site.until(lambda: site.last() is AccountStatus.ENABLED)
    site.says = error(Verdict.ACCOUNT)
    site.accounts.doubt("main", error(Verdict.ACCOUNT))
    waiting = asyncio.create_task(site.accounts.usable("main"))
    await site.until(lambda: site.last() is AccountStatus.SUSPENDED)
    checks = site.checks
    await site.until(lambda: site.checks > checks + 2)
    assert not waiting.done()
    site.says = None
    async with asyncio.timeout(5):
        await waiting
    await site.until(lambda: site.last() is AccountStatus.ENABLED)


@pytest.mark.parametrize(
    "says", [NotWritten("refused"), Unanswered("reset"), error(Verdict.RETRYABLE)]
)
async def test_a_provider_that_is_away_says_nothing_of_an_account(
    site: Site, says: SendError | Exception
) -> None:
    """One that is refused stays so until the provider accepts it."""
    site.says = error(Verdict.ACCOUNT)
    site.accounts.doubt("main", error(Verdict.ACCOUNT))
    await site.until(lambda: site.last() is AccountStatus.SUSPENDED)
    site.says = says
    checks = site.checks
    await site.until(lambda: site.checks > checks + 2)
    assert site.last() is AccountStatus.SUSPENDED
    assert not await site.accounts.answers("main")


async def test_what_consul_was_not_told_it_is_told_later(site: Site) -> None:
    """Soon, and its absence stops no account."""
    site.says = error(Verdict.ACCOUNT)
    site.accounts.doubt("main", error(Verdict.ACCOUNT))
    await site.until(lambda: site.last() is AccountStatus.SUSPENDED)
    site.consul_away, site.says = True, None
    checks = site.checks
    async with asyncio.timeout(5):
        await site.accounts.usable("main")
    await site.until(lambda: site.checks > checks + 2)
    site.told.clear()
    site.consul_away = False
    await site.until(lambda: site.last() is AccountStatus.ENABLED)


@pytest.mark.parametrize("says", [None, error(Verdict.ACCOUNT), error(Verdict.THROTTLED)])
async def test_a_provider_that_answers_is_well(site: Site, says: SendError | None) -> None:
    """Whatever it says of the account."""
    site.says = says
    assert await site.accounts.answers("main")


async def test_an_account_that_was_never_good_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its channel takes no messages: they might wait for ever."""
    monkeypatch.setattr(module, "RECHECK_S", 0.01)
    site = Site()
    site.says = error(Verdict.ACCOUNT)
    try:
        await site.until(lambda: site.last() is AccountStatus.REFUSED)
    finally:
        for task in site.tasks:
            task.cancel()
        await asyncio.gather(*site.tasks, return_exceptions=True)


async def test_the_last_error_is_told_and_stays(site: Site) -> None:
    """What held the account up, by a send or by a check, also after it is good again."""
    await site.until(lambda: site.last() is AccountStatus.ENABLED)
    assert site.trouble() is None
    site.accounts.note("main", error(Verdict.RETRYABLE, "busy"))
    await site.until(lambda: site.trouble() == "busy")
    site.says = NotWritten("refused")
    site.accounts.doubt("main", error(Verdict.ACCOUNT))
    await site.until(lambda: site.trouble() == "provider_unreachable")
    site.says = None
    await site.until(lambda: site.last() is AccountStatus.ENABLED)
    assert site.trouble() == "provider_unreachable"


async def test_an_error_of_one_message_is_not_the_accounts(site: Site) -> None:
    """Neither one that was refused nor one recipient's throttle; a throttle of all of them is."""
    await site.until(lambda: site.last() is AccountStatus.ENABLED)
    site.accounts.note("main", error(Verdict.FINAL, "blocked"))
    site.accounts.note("main", error(Verdict.THROTTLED, "pair"))
    site.accounts.note("main", error(Verdict.THROTTLED, "all", whole_account=True))
    await site.until(lambda: site.trouble() is not None)
    assert [one.accounts["main"].last_error for one in site.told].count(None) == len(site.told) - 1
    assert site.trouble() == "all"


async def test_errors_that_go_on_are_told_now_and_then(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Consul is not written to for every attempt at a provider that is away."""
    await site.until(lambda: site.last() is AccountStatus.ENABLED)
    monkeypatch.setattr(module, "TELL_S", 3600)
    for _ in range(3):
        site.accounts.note("main", error(Verdict.RETRYABLE, "busy"))
        await site.until(lambda: site.trouble() == "busy")
    assert len([one for one in site.told if one.accounts["main"].last_error is not None]) == 1


async def test_the_providers_limits_are_told(site: Site) -> None:
    """With the profile by which they are kept or not."""
    await site.until(lambda: site.last() is AccountStatus.ENABLED)
    quota = site.told[-1].quota
    assert quota is not None
    assert (quota.profile, quota.account_per_s, quota.recipient_interval_s) == ("real", 30, 6)
