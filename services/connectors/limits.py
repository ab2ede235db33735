"""Limits ahead of the provider: so many messages per account and per recipient, and no more."""

from collections.abc import Callable

from services.connectors.base import Limits

RECIPIENTS_MAX = 50_000
"""Recipients remembered at once; those whose time has passed are forgotten first."""


class _Pace:
    """So many over time, and a burst that is borrowed from later (GCRA)."""

    __slots__ = ("paid_until",)

    def __init__(self) -> None:
        self.paid_until = 0.0

    def wait_s(self, now: float, interval_s: float, burst: int) -> float:
        """Return how long to wait before the next may go."""
        return max(0.0, self.paid_until - now - (burst - 1) * interval_s)

    def pay(self, now: float, interval_s: float) -> None:
        """Count one."""
        self.paid_until = max(self.paid_until, now) + interval_s


class AccountLimits:
    """What one account may send, of which this instance takes its share."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._account = _Pace()
        self._recipients: dict[str, _Pace] = {}

    def take(self, address: str, share: float) -> float:
        """Count a message to an address and return 0, or return how long to wait first."""
        now, limits = self._clock(), self._limits
        interval_s = 1 / (limits.account_per_s * share)
        burst = max(1, int(limits.account_burst * share))
        recipient = self._recipients.get(address) or _Pace()
        wait_s = max(
            self._account.wait_s(now, interval_s, burst),
            recipient.wait_s(now, limits.recipient_interval_s, limits.recipient_burst),
        )
        if wait_s > 0:
            return wait_s
        self._account.pay(now, interval_s)
        recipient.pay(now, limits.recipient_interval_s)
        if len(self._recipients) >= RECIPIENTS_MAX:
            self._recipients = {a: p for a, p in self._recipients.items() if p.paid_until > now}
        self._recipients[address] = recipient
        return 0.0
