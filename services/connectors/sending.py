"""Leave to send: an account that is accepted, a provider that is well, a limit that is not met."""

import asyncio
from collections.abc import Callable, Sequence

from services.connectors.accounts import Accounts
from services.connectors.base import Connector
from services.connectors.breaker import Breaker
from services.connectors.limits import AccountLimits
from services.connectors.rows import Row
from services.contracts.topics import PARTITIONS


class _Account:
    """What holds back the deliveries of one account, and nobody else's."""

    def __init__(
        self, limits: AccountLimits | None, sends_max: int, clock: Callable[[], float]
    ) -> None:
        self.limits = limits
        self.breaker = Breaker(clock)
        self.turns = asyncio.Semaphore(sends_max)
        self.gate = asyncio.Lock()
        self.quiet_until = 0.0


class Sending:
    """What stands between a delivery and its attempt, for each account by itself.

    One account that is throttled, refused or hanging takes nothing from the others.
    """

    def __init__(
        self,
        connector: Connector,
        accounts: Accounts,
        *,
        limited: bool,
        sends_max: int,
        clock: Callable[[], float],
    ) -> None:
        self.accounts = accounts
        self._clock = clock
        self._states = {
            name: _Account(
                AccountLimits(connector.limits, clock) if limited else None, sends_max, clock
            )
            for name in connector.accounts
        }
        self.owned: Callable[[], Sequence[int]] = lambda: ()
        """Returns the partitions that are ours: the share of an account's limits goes by them."""

    def breaker(self, account: str) -> Breaker:
        """Return the circuit breaker of an account."""
        return self._states[account].breaker

    def quiet(self, account: str, seconds: float) -> None:
        """Send nothing through an account for a while: the provider asked for it."""
        state = self._states[account]
        state.quiet_until = max(state.quiet_until, self._clock() + seconds)

    def turn(self, row: Row) -> "_Turn":
        """Return a context in which a delivery may be attempted.

        Entering it waits for that, and lends the breaker, which is told what came of it.
        """
        return _Turn(self, row)

    async def admit(self, row: Row) -> Breaker:
        """Wait until a delivery may be attempted; `dismiss` is to be called after it.

        At the gate one waits for all: what holds back an account is the same for each of its
        deliveries, and they pass in the order in which they came.
        """
        account = self._states[row.account]
        await self.accounts.usable(row.account)
        if account.limits is not None:
            while (pause_s := account.limits.take_to(row.address)) > 0:  # noqa: ASYNC110 - a time
                await asyncio.sleep(pause_s)
        await account.turns.acquire()
        try:
            async with account.gate:
                await self._pass(row.account, account)
                await account.breaker.admit()
        except BaseException:
            account.turns.release()
            raise
        return account.breaker

    async def admit_now(self, row: Row) -> Breaker | None:
        """Do as `admit` if a delivery may be attempted without any wait; else return None."""
        account = self._states.get(row.account)
        if account is None or account.limits is not None:
            return None
        if account.turns.locked() or account.gate.locked() or account.breaker.is_open:
            return None
        if not self.accounts.is_usable(row.account) or account.quiet_until > self._clock():
            return None
        await account.turns.acquire()  # there is one: it does not wait
        return account.breaker

    def dismiss(self, row: Row) -> None:
        """Let another take the place of a delivery whose attempt is over."""
        account = self._states[row.account]
        account.breaker.left()
        account.turns.release()

    async def _pass(self, name: str, account: _Account) -> None:
        while True:
            await self.accounts.usable(name)
            pause_s = account.quiet_until - self._clock()
            if pause_s <= 0 and account.limits is not None:
                pause_s = account.limits.take(max(1, len(self.owned())) / PARTITIONS)
            if pause_s <= 0:
                return
            await asyncio.sleep(pause_s)


class _Turn:
    """A delivery's turn; a class, because generators cost more, and there is one for each."""

    __slots__ = ("_row", "_sending")

    def __init__(self, sending: Sending, row: Row) -> None:
        self._sending = sending
        self._row = row

    async def __aenter__(self) -> Breaker:
        return await self._sending.admit(self._row)

    async def __aexit__(self, *_error: object) -> None:
        self._sending.dismiss(self._row)
