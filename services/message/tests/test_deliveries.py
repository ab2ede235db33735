"""What is frozen at acceptance, and what is refused there."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest
from msgspec.structs import replace

from services.contracts.channels import INTERNAL
from services.contracts.people import Address, Kind, Person
from services.contracts.problems import Problem
from services.contracts.status import Status
from services.message.conversations import Conversation, check_participants, open_conversation
from services.message.deliveries import carrier, check_channel, choose, freeze, recipients_of
from services.message.messages import Direction, Message
from services.runtime.channels import Channels

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CHANNEL, OTHER = "WHATSAPP", "TELEGRAM"


def person(number: int, kind: Kind, *channels: str) -> Person:
    """Return a person with an address on each of these channels."""
    addresses = tuple(Address(channel=channel, address=f"{number}") for channel in channels)
    return Person(user_id=UUID(int=number), kind=kind, name=f"{number}", addresses=addresses)


AGENT, COLLEAGUE = person(1, Kind.AGENT), person(2, Kind.AGENT)
ANNA, BERT = person(3, Kind.CUSTOMER, CHANNEL), person(4, Kind.CUSTOMER, OTHER)


def conversation(*people: Person) -> Conversation:
    """Return a conversation among people."""
    return open_conversation(UUID(int=9), people, CHANNEL, NOW)


@pytest.mark.parametrize(
    ("people", "sender", "channel", "expected"),
    [
        ([AGENT, ANNA], AGENT, CHANNEL, [ANNA]),
        ([AGENT, COLLEAGUE, ANNA], AGENT, CHANNEL, [ANNA]),
        ([AGENT, ANNA, BERT], AGENT, CHANNEL, [ANNA, BERT]),
        ([AGENT, ANNA, BERT], ANNA, CHANNEL, [BERT]),
        ([AGENT, COLLEAGUE, ANNA], AGENT, INTERNAL, [COLLEAGUE]),
    ],
)
def test_the_other_customers_or_agents_are_the_recipients(
    people: list[Person], sender: Person, channel: str, expected: list[Person]
) -> None:
    """A message goes to every customer but its sender, an internal one to the other agents."""
    found = recipients_of(conversation(*people), sender.user_id, channel)
    assert found == tuple(one.user_id for one in expected)


@pytest.mark.parametrize(
    ("people", "sender", "code"),
    [
        ([AGENT, ANNA], COLLEAGUE, "not_a_participant"),
        ([AGENT, COLLEAGUE], AGENT, "no_recipient"),
        ([AGENT, ANNA], ANNA, "no_recipient"),
    ],
)
def test_a_message_that_can_go_nowhere_is_refused(
    people: list[Person], sender: Person, code: str
) -> None:
    """Neither strangers nor those who are alone send."""
    with pytest.raises(Problem) as refusal:
        recipients_of(conversation(*people), sender.user_id, CHANNEL)
    assert refusal.value.code == code


def test_each_recipient_gets_one_frozen_delivery() -> None:
    """A delivery names recipient and channel and is PENDING since the acceptance."""
    (delivery,) = freeze([(ANNA.user_id, CHANNEL)], {ANNA.user_id: ANNA}, NOW)
    assert (delivery.recipient_id, delivery.channel) == (ANNA.user_id, CHANNEL)
    assert (delivery.status, delivery.updated_at) == (Status.PENDING, NOW)


@pytest.mark.parametrize("people", [{}, {BERT.user_id: BERT}])
def test_a_recipient_who_cannot_be_reached_is_refused(people: dict[UUID, Person]) -> None:
    """Nobody is written to on a channel on which they have no address."""
    with pytest.raises(Problem) as refusal:
        freeze([(BERT.user_id, CHANNEL)], people, NOW)
    assert refusal.value.code == "no_identity"


@pytest.mark.parametrize(
    ("person", "usable", "expected"),
    [
        (ANNA, {CHANNEL, OTHER}, CHANNEL),
        (ANNA, {OTHER}, CHANNEL),
        (BERT, {CHANNEL, OTHER}, OTHER),
        (BERT, {CHANNEL}, None),
        (None, {CHANNEL}, None),
    ],
)
def test_everybody_is_reached_where_they_are(
    person: Person | None, usable: set[str], expected: str | None
) -> None:
    """On the conversation's channel if they are there, else on the first that is usable."""
    assert choose(person, CHANNEL, usable) == expected


def test_what_is_internal_is_there_at_once() -> None:
    """Nobody else is needed to deliver between agents."""
    (delivery,) = freeze([(COLLEAGUE.user_id, INTERNAL)], {}, NOW)
    assert (delivery.channel, delivery.status) == (INTERNAL, Status.DELIVERED)


@pytest.mark.parametrize(
    ("channel", "code"),
    [(CHANNEL, None), (INTERNAL, None), (OTHER, "channel_disabled"), ("PIGEON", "unknown_channel")],
)
def test_only_a_channel_that_is_enabled_carries_messages(channel: str, code: str | None) -> None:
    """One that is unknown or out of order is refused by its code."""
    directory = cast(
        "Channels",
        SimpleNamespace(states={CHANNEL: None, OTHER: None}, usable={CHANNEL}),
    )
    if code is None:
        check_channel(channel, directory)
        return
    with pytest.raises(Problem) as refusal:
        check_channel(channel, directory)
    assert refusal.value.code == code


@pytest.mark.parametrize("numbers", [[], [1], [1, 1], list(range(101))])
def test_participants_are_2_to_100_distinct(numbers: list[int]) -> None:
    """Fewer, more or twice the same do not make a conversation."""
    with pytest.raises(Problem) as refusal:
        check_participants([UUID(int=number) for number in numbers])
    assert (refusal.value.code, refusal.value.field) == ("invalid_field", "participants")


def test_a_customer_is_answered_through_the_account_they_wrote_to() -> None:
    """On the channel on which they opened the conversation, and on others once they wrote there."""
    talk = open_conversation(UUID(int=9), [ANNA], CHANNEL, NOW, account="main")
    assert (talk.account_on(CHANNEL), talk.account_on(OTHER)) == ("main", None)
    talk = replace(talk, accounts={OTHER: "second"})
    assert (talk.account_on(CHANNEL), talk.account_on(OTHER)) == ("main", "second")


@pytest.mark.parametrize(
    ("people", "expected"), [([ANNA], CHANNEL), ([BERT], OTHER), ([ANNA, BERT], CHANNEL)]
)
def test_a_message_is_marked_with_the_channel_it_goes_out_on(
    people: list[Person], expected: str
) -> None:
    """That of all its deliveries, or the conversation's where there are several."""
    chosen = [(one.user_id, one.addresses[0].channel) for one in people]
    deliveries = freeze(chosen, {one.user_id: one for one in people}, NOW)
    assert carrier(deliveries, CHANNEL) == expected


def test_an_account_is_no_other_channels() -> None:
    """Of a group's message only the deliveries on its own channel go through its account."""
    chosen: list[tuple[UUID, str | None]] = [(ANNA.user_id, CHANNEL), (BERT.user_id, OTHER)]
    message = Message(
        id=UUID(int=8),
        conversation_id=UUID(int=9),
        seq=1,
        direction=Direction.OUTBOUND,
        sender_id=AGENT.user_id,
        channel=CHANNEL,
        accepted_at=NOW,
        status=Status.PENDING,
        rev=1,
        account="main",
        deliveries=freeze(chosen, {ANNA.user_id: ANNA, BERT.user_id: BERT}, NOW),
    )
    planned = {one.channel: one.account for one in message.accepted().deliveries}
    assert planned == {CHANNEL: "main", OTHER: None}
