"""Leave to send: an account that is accepted, a provider that is well, a limit that is not met."""

import asyncio
from collections.abc import Callable, Sequence

from services.connectors.accounts import Accounts
from services.connectors.base import Connector
from services.connectors.breaker import Breaker
from services.connectors.limits import AccountLimits
from services.connectors.rows import Row
from services.contracts.topics import PARTITIONS


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
        self._breakers = {name: Breaker(clock) for name in connector.accounts}
        self._turns = {name: asyncio.Semaphore(sends_max) for name in connector.accounts}
        self._limits = {
            name: AccountLimits(connector.limits, clock) for name in connector.accounts if limited
        }
        self._quiet_until: dict[str, float] = {}
        self._clock = clock
        self.owned: Callable[[], Sequence[int]] = lambda: ()
        """Returns the partitions that are ours: the share of an account's limits goes by them."""

    def breaker(self, account: str) -> Breaker:
        """Return the circuit breaker of an account."""
        return self._breakers[account]

    def turns(self, account: str) -> asyncio.Semaphore:
        """Return what bounds the attempts of an account that run at once."""
        return self._turns[account]

    def quiet(self, account: str, seconds: float) -> None:
        """Send nothing through an account for a while: the provider asked for it."""
        self._quiet_until[account] = max(
            self._quiet_until.get(account, 0.0), self._clock() + seconds
        )

    async def leave(self, row: Row) -> None:
        """Return when a delivery may be attempted as far as these things go.

        Then its account's breaker has admitted it, and must be told what came of it.
        """
        while True:
            await self.accounts.usable(row.account)
            pause_s = self._quiet_until.get(row.account, 0.0) - self._clock()
            if pause_s <= 0 and (limits := self._limits.get(row.account)) is not None:
                pause_s = limits.take(row.address, max(1, len(self.owned())) / PARTITIONS)
            if pause_s <= 0:
                break
            await asyncio.sleep(pause_s)
        await self._breakers[row.account].admit()
