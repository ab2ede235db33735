"""Freezes what a message will be delivered as, at its acceptance and for ever."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from uuid import UUID

from services.contracts.channels import INTERNAL
from services.contracts.people import Kind, Person
from services.contracts.problems import Problem
from services.message.conversations import Conversation
from services.message.messages import Delivery
from services.message.statuses import pending, settled_here
from services.runtime.channels import Channels


def check_channel(channel: str, channels: Channels) -> None:
    """Raise the Problem when a channel cannot carry messages now."""
    if channel == INTERNAL:
        return
    if channel not in channels.states:
        raise Problem("unknown_channel", "Choose one of GET /api/v1/channels.", field="channel")
    if channel not in channels.usable:
        raise Problem("channel_disabled", "Choose another or enable it first.", field="channel")


def recipients_of(conversation: Conversation, sender_id: UUID, channel: str) -> tuple[UUID, ...]:
    """Return whom a message of this sender goes to; raise the Problem when it cannot go.

    What is internal goes to the other agents, everything else to the customers.
    """
    if conversation.participant(sender_id) is None:
        raise Problem("not_a_participant", "Add the sender first.", field="sender_id")
    kind = Kind.AGENT if channel == INTERNAL else Kind.CUSTOMER
    recipients = conversation.others(sender_id, kind)
    if not recipients:
        raise Problem("no_recipient", f"Add somebody else of kind {kind} first.")
    return recipients


def choose(person: Person | None, primary: str, usable: Collection[str]) -> str | None:
    """Return the channel somebody is reached on when no message says which.

    The conversation's own if they are there, else the first usable one of their identities.
    """
    channels = [address.channel for address in person.addresses] if person is not None else []
    if primary in channels:
        return primary
    return next((channel for channel in channels if channel in usable), None)


def carrier(deliveries: Collection[Delivery], asked: str) -> str:
    """Return the channel that a message is marked with: that of all its deliveries, if it is one.

    Otherwise the one that was asked for; each delivery tells its own.
    """
    used = {delivery.channel for delivery in deliveries}
    return used.pop() if len(used) == 1 else asked


def freeze(
    chosen: Iterable[tuple[UUID, str | None]], people: Mapping[UUID, Person], at: datetime
) -> tuple[Delivery, ...]:
    """Return one delivery for each recipient; raise the Problem when one cannot be reached."""
    deliveries = []
    for recipient_id, channel in chosen:
        if channel == INTERNAL:
            deliveries.append(settled_here(recipient_id, channel, at))
            continue
        person = people.get(recipient_id)
        if channel is None or person is None or person.address_on(channel) is None:
            where = f"on {channel}" if channel is not None else "on a channel that is enabled"
            raise Problem("no_identity", f"Link an identity {where} to user {recipient_id} first.")
        deliveries.append(pending(recipient_id, channel, at))
    return tuple(deliveries)
