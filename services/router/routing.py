"""Routing as a pure rule: the deliveries that were frozen, each with its recipient's address."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from services.contracts.people import Person
from services.contracts.records import (
    DeliveryRequested,
    MessageAccepted,
    PlannedDelivery,
    Reason,
    StatusChanged,
)
from services.contracts.status import Status

NO_IDENTITY = "no_identity"


def route(
    message: MessageAccepted, people: Mapping[UUID, Person], now: datetime
) -> list[DeliveryRequested | StatusChanged]:
    """Return a delivery for each recipient with an address, a failure for each without."""
    return [_one(message, planned, people, now) for planned in message.deliveries]


def _one(
    message: MessageAccepted,
    planned: PlannedDelivery,
    people: Mapping[UUID, Person],
    now: datetime,
) -> DeliveryRequested | StatusChanged:
    person = people.get(planned.recipient_id)
    found = person.address_on(planned.channel) if person is not None else None
    if found is None:
        return StatusChanged(
            message_id=message.message_id,
            conversation_id=message.conversation_id,
            recipient_id=planned.recipient_id,
            channel=planned.channel,
            status=Status.FAILED,
            at=now,
            observed_at=now,
            reason=Reason(NO_IDENTITY, "The recipient has no identity on the channel."),
            replay_no=planned.replay_no,
        )
    return DeliveryRequested(
        message_id=message.message_id,
        conversation_id=message.conversation_id,
        recipient_id=planned.recipient_id,
        channel=planned.channel,
        address=found.address,
        account=found.account or planned.account,
        content=message.content,
        accepted_at=message.accepted_at,
        reply_to=message.reply_to,
        replay_no=planned.replay_no,
        at_least_once=message.at_least_once,
    )
