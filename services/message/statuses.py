"""Applies evidence to deliveries: the state is the maximum of all that was ever learned.

A delivery keeps its evidence as a sorted set, one entry for each thing learned, with the
earliest time it was learned of. The state is read off its last entry, so any order, repetition
or late arrival of the same evidence ends in the same delivery.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from services.contracts.records import StatusChanged
from services.contracts.status import Status, aggregate, rank
from services.message.messages import Delivery, Evidence, Message

HISTORY_LENGTH_MAX = 64
"""The lowest evidence is dropped first: what decides the state always stays."""

Target = tuple[UUID, str]
"""Which delivery of a message: recipient and channel."""


def pending(recipient_id: UUID, channel: str, at: datetime) -> Delivery:
    """Return a delivery of which nothing is known but that it was accepted."""
    first = Evidence(status=Status.PENDING, at=at, observed_at=at)
    return _summary(recipient_id, channel, (first,))


def settled_here(recipient_id: UUID, channel: str, at: datetime) -> Delivery:
    """Return a delivery that needs nobody else: it is there as soon as it is stored."""
    history = (Status.PENDING, Status.SENT, Status.DELIVERED)
    return _summary(
        recipient_id,
        channel,
        tuple(Evidence(status=status, at=at, observed_at=at) for status in history),
    )


def fold(message: Message, updates: Sequence[StatusChanged]) -> Message:
    """Return the message with the evidence applied; the very same object when none is new."""
    by_target: dict[Target, list[Evidence]] = {}
    for update in updates:
        by_target.setdefault((update.recipient_id, update.channel), []).append(_evidence(update))
    deliveries = tuple(
        _learn(delivery, by_target.get((delivery.recipient_id, delivery.channel), ()))
        for delivery in message.deliveries
    )
    if deliveries == message.deliveries:
        return message
    status = aggregate(delivery.status for delivery in deliveries)
    return replace(message, deliveries=deliveries, status=status, rev=message.rev + 1)


def targets(message: Message) -> frozenset[Target]:
    """Return the deliveries that a message has."""
    return frozenset((delivery.recipient_id, delivery.channel) for delivery in message.deliveries)


def _evidence(update: StatusChanged) -> Evidence:
    return Evidence(
        status=update.status,
        at=_in_milliseconds(update.at),
        observed_at=_in_milliseconds(update.observed_at),
        reason=update.reason,
        replay_no=update.replay_no,
    )


def _in_milliseconds(time: datetime) -> datetime:
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def _learn(delivery: Delivery, evidence: Iterable[Evidence]) -> Delivery:
    known = {_identity(entry): entry for entry in delivery.history}
    for entry in evidence:
        identity = _identity(entry)
        known[identity] = min(known.get(identity, entry), entry, key=_age)
    history = tuple(sorted(known.values(), key=_height)[-HISTORY_LENGTH_MAX:])
    if history == delivery.history:
        return delivery
    return _summary(delivery.recipient_id, delivery.channel, history)


def _summary(recipient_id: UUID, channel: str, history: tuple[Evidence, ...]) -> Delivery:
    highest = history[-1]
    return Delivery(
        recipient_id=recipient_id,
        channel=channel,
        status=highest.status,
        updated_at=highest.at,
        history=history,
        reason=highest.reason,
        replay_no=highest.replay_no,
    )


def _code(entry: Evidence) -> str:
    return entry.reason.code if entry.reason is not None else ""


def _identity(entry: Evidence) -> tuple[int, Status, str]:
    return entry.replay_no, entry.status, _code(entry)


def _age(entry: Evidence) -> tuple[datetime, datetime, str]:
    detail = entry.reason.detail if entry.reason is not None else ""
    return entry.at, entry.observed_at, detail


def _height(entry: Evidence) -> tuple[int, int, str]:
    return entry.replay_no, rank(entry.status, _code(entry)), _code(entry)
