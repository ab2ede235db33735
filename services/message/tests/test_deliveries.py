"""What is frozen at acceptance, and what is refused there."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from services.contracts.channels import (
    AccountState,
    AccountStatus,
    Capabilities,
    ChannelState,
)
from services.contracts.people import Address, Kind, Person
from services.contracts.problems import Problem
from services.contracts.status import Status
from services.message.conversations import Conversation, check_participants, open_conversation
from services.message.deliveries import check_channel, freeze, recipients_of

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CHANNEL, OTHER = "WHATSAPP", "TELEGRAM"


def person(number: int, kind: Kind, *channels: str) -> Person:
    """Return a person with an address on each of these channels."""
    addresses = tuple(Address(channel=channel, address=f"{number}") for channel in channels)
    return Person(user_id=UUID(int=number), kind=kind, name=f"{number}", addresses=addresses)


AGENT, COLLEAGUE = person(1, Kind.AGENT), person(2, Kind.AGENT)
ANNA, BERT = person(3, Kind.CUSTOMER, CHANNEL), person(4, Kind.CUSTOMER, OTHER)
STATE = ChannelState(
    channel=CHANNEL,
    capabilities=Capabilities(receipts=(Status.SENT,), text_length_max=5),
    accounts={"main": AccountState(status=AccountStatus.ENABLED, checked_at=NOW)},
)


def conversation(*people: Person) -> Conversation:
    """Return a conversation among people."""
    return open_conversation(UUID(int=9), people, CHANNEL, NOW)


@pytest.mark.parametrize(
    ("people", "sender", "expected"),
    [
        ([AGENT, ANNA], AGENT, [ANNA]),
        ([AGENT, COLLEAGUE, ANNA], AGENT, [ANNA]),
        ([AGENT, ANNA, BERT], AGENT, [ANNA, BERT]),
        ([AGENT, ANNA, BERT], ANNA, [BERT]),
    ],
)
def test_the_other_customers_are_the_recipients(
    people: list[Person], sender: Person, expected: list[Person]
) -> None:
    """A message goes to every customer but its sender."""
    found = recipients_of(conversation(*people), sender.user_id)
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
        recipients_of(conversation(*people), sender.user_id)
    assert refusal.value.code == code


def test_each_recipient_gets_one_frozen_delivery() -> None:
    """A delivery names recipient and channel and is PENDING since the acceptance."""
    (delivery,) = freeze((ANNA.user_id,), CHANNEL, {ANNA.user_id: ANNA}, NOW)
    assert (delivery.recipient_id, delivery.channel) == (ANNA.user_id, CHANNEL)
    assert (delivery.status, delivery.updated_at) == (Status.PENDING, NOW)


@pytest.mark.parametrize("people", [{}, {BERT.user_id: BERT}])
def test_a_recipient_who_cannot_be_reached_is_refused(people: dict[UUID, Person]) -> None:
    """Nobody is written to on a channel on which they have no address."""
    with pytest.raises(Problem) as refusal:
        freeze((BERT.user_id,), CHANNEL, people, NOW)
    assert refusal.value.code == "no_identity"


@pytest.mark.parametrize(
    ("state", "usable", "content", "code"),
    [
        (None, False, "hello", "unknown_channel"),
        (STATE, False, "hello", "channel_disabled"),
        (STATE, True, "hello!", "text_too_long"),
        (STATE, True, "hello", None),
        (STATE, True, "👋🏽👋🏽.", None),
    ],
)
def test_a_channel_carries_what_it_can(
    state: ChannelState | None,
    usable: bool,  # noqa: FBT001 - a column of the table
    content: str,
    code: str | None,
) -> None:
    """A text goes on a known, enabled channel up to its length."""
    if code is None:
        check_channel(CHANNEL, state, content, usable=usable)
        return
    with pytest.raises(Problem) as refusal:
        check_channel(CHANNEL, state, content, usable=usable)
    assert refusal.value.code == code


@pytest.mark.parametrize("numbers", [[], [1], [1, 1], list(range(101))])
def test_participants_are_2_to_100_distinct(numbers: list[int]) -> None:
    """Fewer, more or twice the same do not make a conversation."""
    with pytest.raises(Problem) as refusal:
        check_participants([UUID(int=number) for number in numbers])
    assert (refusal.value.code, refusal.value.field) == ("invalid_field", "participants")


def test_the_account_goes_with_the_channel_it_belongs_to() -> None:
    """A conversation that a customer opened is answered through the account they wrote to."""
    talk = open_conversation(UUID(int=9), [ANNA], CHANNEL, NOW, account="main")
    assert (talk.account_on(CHANNEL), talk.account_on(OTHER)) == ("main", None)
