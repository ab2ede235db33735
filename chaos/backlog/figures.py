"""What a run with a backlog measured, held against what it promises. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from chaos.checkers.deliveries import Judgement
from chaos.history import Outcome, Receipt, Send
from chaos.statistics import quantile
from chaos.units import show
from chaos.verdicts import Valid, Verdict

MEMORY_GROWTH_MAX_BYTES = 64 * 2**20
DELAY_P95_MAX_S = 2.0
READY_MAX_S = 10.0
BEFORE = "before"
UNFINISHED = {"pending", "sending"}
_USABLE = "ENABLED"
_ACCOUNTS_MIN = 2


class Unfit(Exception):  # noqa: N818 - a sentence about why nothing can be shown
    """The platform is not in a state in which a backlog would show anything."""


class Scene(Struct, frozen=True):
    """Which account is throttled, and which ones must not notice."""

    channel: str
    throttled: str
    free: str
    other: str
    """Another channel."""

    @property
    def job(self) -> str:
        """The job of the connectors of the channel, and their consumer group."""
        return f"connector-{self.channel.lower()}"


class Felt(Struct, frozen=True, kw_only=True):
    """How long each message of one way took until its provider had it."""

    way: str
    sent: int
    accepted: int
    delays_s: list[float]

    @property
    def whole(self) -> bool:
        """True when every message was accepted and is at its provider."""
        return bool(self.sent) and self.sent == self.accepted == len(self.delays_s)

    @property
    def p95_s(self) -> float:
        """The p95 of those that arrived; there must be one."""
        return quantile(self.delays_s, 0.95)

    def __str__(self) -> str:
        arrived = f"{len(self.delays_s)} of {self.sent} delivered, {self.accepted} accepted"
        return f"p95 {show(self.p95_s)}" if self.whole else arrived


def choose(channels: Sequence[Mapping[str, Any]], wanted: str | None) -> Scene:
    """Choose a channel with two accounts and another channel; raise Unfit when there is none."""
    enabled = {str(item["channel"]): _accounts(item) for item in channels if item["enabled"]}
    if wanted is not None and wanted not in enabled:
        raise Unfit(f"{wanted} takes no messages; there are: {', '.join(enabled)}.")
    fitting = [name for name, accounts in enabled.items() if len(accounts) >= _ACCOUNTS_MIN]
    channel = next((name for name in fitting if wanted in (None, name)), None)
    if channel is None:
        where = wanted or "No channel"
        raise Unfit(f"{where} has two accounts that may send; with two: {', '.join(fitting)}.")
    other = next((name for name in enabled if name != channel), None)
    if other is None:
        raise Unfit(f"There is no channel beside {channel} that takes messages.")
    free, *_, throttled = enabled[channel]
    return Scene(channel, throttled, free, other)


def _accounts(item: Mapping[str, Any]) -> list[str]:
    return sorted(a["account"] for a in item["accounts"] if a["status"] == _USABLE)


def felt(way: str, sends: Sequence[Send], receipts: Sequence[Receipt]) -> Felt:
    """Return what messages felt: from their POST until they were first kept."""
    arrived: dict[str, float] = {}
    for receipt in receipts:
        if receipt.kept:
            arrived.setdefault(receipt.text, receipt.received_at)
    accepted = [send for send in sends if send.outcome is Outcome.OK]
    return Felt(
        way=way,
        sent=len(sends),
        accepted=len(accepted),
        delays_s=[arrived[s.content] - s.invoked_at for s in accepted if s.content in arrived],
    )


def leaked(receipts: Sequence[Receipt], runs: Sequence[str]) -> int:
    """Return how many messages of some runs a provider kept."""
    return sum(receipt.kept and receipt.text.startswith(tuple(runs)) for receipt in receipts)


def throttle(hits: int, kept: int) -> Verdict:
    """Tell whether the account was throttled all the time: else nothing is shown."""
    valid = Valid.TRUE if hits and not kept else Valid.UNKNOWN
    reason = f"{hits} requests were refused, {kept} of its messages were taken"
    return Verdict(name="throttled account", valid=valid, reason=reason)


def waiting(when: str, states: Mapping[str, int], deliveries: int) -> Verdict:
    """Tell whether every delivery of the backlog waits, once and unsettled, in the ledger."""
    found = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"
    kept = sum(states.values()) == deliveries and states.keys() <= UNFINISHED
    reason = f"of {deliveries} deliveries the ledger holds {found}"
    return Verdict(name=f"backlog {when}", valid=_valid(kept=kept), reason=reason)


def memory(noted: Mapping[str, Mapping[str, int]]) -> Verdict:
    """Hold the most that each instance used against what it had before the backlog.

    An instance that is new is held against the smallest of before. A moment at which one was not
    measured shows nothing.
    """
    before = noted.get(BEFORE, {})
    later = [used for moment, used in noted.items() if moment != BEFORE]
    if not before or not later or any(len(used) < len(before) for used in later):
        return Verdict(name="memory", valid=Valid.UNKNOWN, reason="it could not be measured")
    least = min(before.values())
    growth = max(used[one] - before.get(one, least) for used in later for one in used)
    kept = growth < MEMORY_GROWTH_MAX_BYTES
    bound = f"less than {_mb(MEMORY_GROWTH_MAX_BYTES)}"
    reason = f"a process grew by {_mb(growth)} at most, {bound} was promised"
    return Verdict(name="memory", valid=_valid(kept=kept), reason=reason)


def memory_lines(noted: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a line for each moment: what the process of each instance used at most."""
    return [
        f"memory {moment}: "
        + ", ".join(f"{one[:8]} {_mb(used)}" for one, used in sorted(by_instance.items()))
        for moment, by_instance in noted.items()
    ]


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MB"


def swift(before: Felt, during: Felt) -> Verdict:
    """Hold what a way felt beside the backlog against the bound, and tell the ratio."""
    name = during.way
    if not before.whole:
        reason = f"before the backlog only {before}"
        return Verdict(name=name, valid=Valid.UNKNOWN, reason=reason)
    if not during.whole:
        return Verdict(name=name, valid=Valid.FALSE, reason=f"beside the backlog only {during}")
    ratio = during.p95_s / before.p95_s
    reason = (
        f"p95 {show(before.p95_s)} before, {show(during.p95_s)} beside the backlog "
        f"(x {ratio:.2f}), less than {show(DELAY_P95_MAX_S)} was promised"
    )
    return Verdict(name=name, valid=_valid(kept=during.p95_s < DELAY_P95_MAX_S), reason=reason)


def restarted(ready_s: Mapping[str, float | None]) -> Verdict:
    """Tell whether every instance that was killed was ready in time; None is one that was not."""
    if not ready_s:
        return Verdict(name="restart", valid=Valid.UNKNOWN, reason="no instance was killed")
    times = ", ".join(
        f"{one[:8]} {'never' if seconds is None else f'after {show(seconds)}'}"
        for one, seconds in sorted(ready_s.items())
    )
    kept = all(seconds is not None and seconds < READY_MAX_S for seconds in ready_s.values())
    reason = f"ready again: {times}; less than {show(READY_MAX_S)} was promised"
    return Verdict(name="restart", valid=_valid(kept=kept), reason=reason)


def after_restart(found: Felt, since_kill_s: float) -> Verdict:
    """Tell whether the free account delivers again, and how long after the kill."""
    if not found.whole:
        return Verdict(name="after the restart", valid=Valid.FALSE, reason=f"only {found}")
    reason = f"a message to each of {found.sent} customers was delivered, {found}, "
    reason += f"the last {show(since_kill_s)} after the kill"
    return Verdict(name="after the restart", valid=Valid.TRUE, reason=reason)


def drained(found: Judgement) -> Verdict:
    """Tell whether the sample left the backlog in order, once each and without loss."""
    if not found.acknowledged:
        return Verdict(name="drain", valid=Valid.UNKNOWN, reason="no message was accepted")
    reason = (
        f"{found.delivered} of {found.acknowledged} messages delivered, {len(found.lost)} lost, "
    )
    reason += f"{len(found.doubled)} doubled, {len(found.reordered)} reordered, "
    reason += f"{len(found.open)} visibly open, {len(found.unexpected)} that nobody sent"
    return Verdict(name="drain", valid=_valid(kept=found.kept), reason=reason)


def removed(kept: int) -> Verdict:
    """Tell whether nothing of what was removed was sent all the same."""
    reason = f"{kept} of the removed deliveries were sent"
    return Verdict(name="removed backlog", valid=_valid(kept=not kept), reason=reason)


def _valid(*, kept: bool) -> Valid:
    return Valid.TRUE if kept else Valid.FALSE
