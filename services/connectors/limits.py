"""Limits ahead of the provider: so many messages per account and per recipient, and no more."""

from collections.abc import Callable

from services.contracts.channels import Limits

RECIPIENTS_MAX = 50_000
"""Recipients remembered at once; those whose time has passed are forgotten first."""


class _Pace:
    """So many over time, and a burst that is borrowed from later (GCRA)."""

    __slots__ = ("paid_until",)

    def __init__(self) -> None:
        self.paid_until = 0.0

    def take(self, now: float, interval_s: float, burst: int) -> float:
        """Count one and return 0, or return how long to wait first."""
        wait_s = self.paid_until - now - (burst - 1) * interval_s
        if wait_s > 0:
            return wait_s
        self.paid_until = max(self.paid_until, now) + interval_s
        return 0.0


class AccountLimits:
    """What one account may send: to whoever it is, and to each recipient."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._account = _Pace()
        self._recipients: dict[str, _Pace] = {}

    def take(self, share: float) -> float:
        """Count a message within a share of the account's limit, or return how long to wait."""
        burst = max(1, int(self._limits.account_burst * share))
        return self._account.take(self._clock(), 1 / (self._limits.account_per_s * share), burst)

    def take_to(self, address: str) -> float:
        """Count a message to an address, or return how long to wait."""
        now = self._clock()
        pace = self._recipients.get(address)
        if pace is None:
            if len(self._recipients) >= RECIPIENTS_MAX:
                self._recipients = {a: p for a, p in self._recipients.items() if p.paid_until > now}
            pace = self._recipients[address] = _Pace()
        return pace.take(now, self._limits.recipient_interval_s, self._limits.recipient_burst)
