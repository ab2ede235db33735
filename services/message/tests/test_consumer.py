"""Statuses and inbound messages as they come from Kafka, on real MongoDB."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from services.contracts.channels import AccountStatus
from services.contracts.ids import inbound_id
from services.contracts.people import Address, Kind
from services.contracts.records import AnyRecord, MessageReceived, StatusChanged
from services.contracts.status import Status
from services.contracts.topics import CHAT_EVENTS, CONVERSATION_EVENTS, DEAD_LETTERS
from services.message.consumer import StatusConsumer
from services.message.inbound import InboundConsumer
from services.message.messages import Message, Order, now
from services.message.store import MessageStore
from services.message.tests.conftest import CHANNEL, Bench, publish_channel
from services.runtime.kafka.consumer import Received

pytestmark = pytest.mark.connected
OTHER = "TELEGRAM"


def batch(*records: AnyRecord) -> Sequence[Received]:
    """Return records as a consumer hands them over."""
    return [Received(record, "topic", 0, offset, None) for offset, record in enumerate(records)]


def evidence(one: Message, status: Status) -> StatusChanged:
    """Return evidence about the first delivery of a message."""
    return StatusChanged(
        message_id=one.id,
        conversation_id=one.conversation_id,
        recipient_id=one.deliveries[0].recipient_id,
        channel=CHANNEL,
        status=status,
        at=now(),
        observed_at=now(),
    )


async def sent(bench: Bench) -> Message:
    """Return a message that was accepted just now."""
    conversation_id, agent, _ = await bench.talk()
    _, body, _ = await bench.post(
        "/messages", {"conversation_id": conversation_id, "sender_id": agent, "content": "hi"}
    )
    stored = await bench.messages.find(UUID(body["message_id"]))
    assert stored is not None
    bench.topics.published.clear()
    return stored


def written(address: str, number: int = 1, **more: object) -> MessageReceived:
    """Return what a customer wrote."""
    fields = {
        "channel": CHANNEL,
        "account": "main",
        "account_scoped": False,
        "address": address,
        "provider_message_id": f"{address} {number}",
        "provider_at": now(),
        "received_at": now(),
        "content": f"message {number}",
    }
    return MessageReceived(**{**fields, **more})  # type: ignore[arg-type]


@pytest.fixture
def statuses(bench: Bench) -> StatusConsumer:
    """The consumer of statuses."""
    return StatusConsumer(bench.messages, bench.letters, bench.topics)


@pytest.fixture
def inbound(bench: Bench) -> InboundConsumer:
    """The consumer of what customers write."""
    return InboundConsumer(
        bench.messages, bench.conversations, bench.history, bench.people, bench.topics
    )


async def test_a_batch_makes_one_change_and_one_event_of_a_message(
    bench: Bench, statuses: StatusConsumer
) -> None:
    """Three statuses at once move the revision once."""
    one, other = await sent(bench), await sent(bench)
    way = (Status.SENT, Status.DELIVERED, Status.READ)
    await statuses.handle(batch(*(evidence(one, status) for status in way)))
    await statuses.handle(batch(evidence(other, Status.SENT)))
    stored = await bench.messages.find_many([one.id, other.id])
    assert (stored[one.id].status, stored[one.id].rev) == (Status.READ, 2)
    assert [entry.status for entry in stored[one.id].deliveries[0].history] == [
        Status.PENDING,
        *way,
    ]
    events = bench.topics.on(CONVERSATION_EVENTS)
    assert [(event.message_id, event.status, event.rev) for event in events] == [
        (one.id, Status.READ, 2),
        (other.id, Status.SENT, 2),
    ]


async def test_a_repetition_emits_the_state_and_changes_nothing(
    bench: Bench, statuses: StatusConsumer
) -> None:
    """After a crash between change and event the event still comes."""
    one = await sent(bench)
    record = evidence(one, Status.SENT)
    for _ in range(2):
        await statuses.handle(batch(record))
    events = bench.topics.on(CONVERSATION_EVENTS)
    assert [(event.status, event.rev) for event in events] == [(Status.SENT, 2)] * 2


async def test_evidence_survives_a_change_in_between(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When somebody else was faster, the evidence is applied to what they wrote."""
    one = await sent(bench)
    reading = bench.messages.find_many
    interfered = asyncio.Event()

    async def find_many(store: MessageStore, ids: Sequence[UUID]) -> dict[UUID, Message]:
        found = await reading(ids)
        if not interfered.is_set():
            interfered.set()
            await StatusConsumer(store, bench.letters, bench.topics).handle(
                batch(evidence(one, Status.SENT))
            )
        return found

    monkeypatch.setattr(MessageStore, "find_many", find_many)
    await StatusConsumer(bench.messages, bench.letters, bench.topics).handle(
        batch(evidence(one, Status.READ))
    )
    stored = await bench.messages.find(one.id)
    assert stored is not None
    assert (stored.status, stored.rev) == (Status.READ, 3)
    assert {entry.status for entry in stored.deliveries[0].history} == {
        Status.PENDING,
        Status.SENT,
        Status.READ,
    }


async def test_what_is_remembered_gives_way_to_what_another_instance_wrote(
    bench: Bench, statuses: StatusConsumer
) -> None:
    """New evidence is added to the other's, and a repetition tells how far it really is."""
    one = await sent(bench)
    there = StatusConsumer(MessageStore(bench.mongo), bench.letters, bench.topics)
    first = evidence(one, Status.SENT)
    await statuses.handle(batch(first))
    await there.handle(batch(evidence(one, Status.DELIVERED)))
    await statuses.handle(batch(evidence(one, Status.READ)))
    await there.handle(batch(evidence(one, Status.FAILED)))
    await statuses.handle(batch(first))
    events = [(event.status, event.rev) for event in bench.topics.on(CONVERSATION_EVENTS)]
    assert events[:3] == [(Status.SENT, 2), (Status.DELIVERED, 3), (Status.READ, 4)]
    assert events[3] == events[4]


async def test_what_was_just_written_is_not_read_again(
    bench: Bench, statuses: StatusConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that was accepted here is known, with all that was learned of it here."""
    asked: list[UUID] = []
    reading = bench.messages.find_many

    async def find_many(message_ids: Sequence[UUID]) -> dict[UUID, Message]:
        asked.extend(message_ids)
        return await reading(message_ids)

    one = await sent(bench)
    monkeypatch.setattr(bench.messages, "find_many", find_many)
    for status in (Status.SENT, Status.DELIVERED):
        await statuses.handle(batch(evidence(one, status)))
    assert not asked
    assert [event.rev for event in bench.topics.on(CONVERSATION_EVENTS)] == [2, 3]


async def test_what_names_no_delivery_becomes_a_dead_letter(
    bench: Bench, statuses: StatusConsumer
) -> None:
    """A status of an unknown message, and a record that is no status, stop nobody."""
    one = await sent(bench)
    stray = StatusChanged(
        message_id=uuid4(),
        conversation_id=uuid4(),
        recipient_id=uuid4(),
        channel=CHANNEL,
        status=Status.SENT,
        at=now(),
        observed_at=now(),
    )
    await statuses.handle(batch(stray, evidence(one, Status.SENT), one.changed()))
    letters = bench.topics.on(DEAD_LETTERS)
    assert [(letter.offset, letter.reason.code) for letter in letters] == [
        (0, "unknown_delivery"),
        (2, "unexpected_record"),
    ]
    assert len(bench.topics.on(CONVERSATION_EVENTS)) == 1


async def test_a_strangers_message_opens_a_conversation(
    bench: Bench, inbound: InboundConsumer
) -> None:
    """User and conversation are made, the messages are stored in order, and watchers are told."""
    address = uuid4().hex
    bench.topics.published.clear()
    await inbound.handle(batch(*(written(address, number) for number in (1, 2, 3))))
    first = await bench.messages.find(inbound_id(CHANNEL, "main", f"{address} 1"))
    assert first is not None
    await bench.history.counted()
    talk = await bench.conversations.find(first.conversation_id)
    assert talk is not None
    assert [one.kind for one in talk.participants] == [Kind.CUSTOMER]
    assert (talk.account, talk.message_count) == ("main", 3)
    history = await bench.messages.page(talk.id, Order.ASC, None, 10)
    assert [one.content for one in history] == ["message 1", "message 2", "message 3"]
    assert {(one.direction, one.status, one.account) for one in history} == {
        ("INBOUND", Status.DELIVERED, "main")
    }
    events = bench.topics.on(CONVERSATION_EVENTS)
    assert [event.seq for event in events] == [1, 2, 3]


async def test_a_message_is_stored_once_for_ever(bench: Bench, inbound: InboundConsumer) -> None:
    """However often a provider or Kafka repeats it, it counts once."""
    record = written(uuid4().hex)
    await asyncio.gather(*(inbound.handle(batch(record, record)) for _ in range(4)))
    stored = await bench.messages.find(inbound_id(CHANNEL, "main", record.provider_message_id))
    assert stored is not None
    await bench.history.counted()
    talk = await bench.conversations.find(stored.conversation_id)
    assert talk is not None
    assert talk.message_count == 1


async def test_a_customer_answers_where_they_were_written_to(
    bench: Bench, inbound: InboundConsumer
) -> None:
    """The reply lands in the agent's conversation, and its context leads to another."""
    conversation_id, agent, customer = await bench.talk()
    address = bench.neighbours.people[customer].addresses[0].address
    await inbound.handle(batch(written(address, 1)))
    _, other, _ = await bench.post(
        "/conversations", {"participants": [agent, customer], "primary_channel": CHANNEL}
    )
    _, asked, _ = await bench.post(
        "/messages",
        {"conversation_id": other["conversation_id"], "sender_id": agent, "content": "?"},
    )
    await bench.post(
        "/messages", {"conversation_id": conversation_id, "sender_id": agent, "content": "later"}
    )
    reply_to = UUID(asked["message_id"])
    await inbound.handle(batch(written(address, 2), written(address, 3, reply_to=reply_to)))
    found = [
        await bench.messages.find(inbound_id(CHANNEL, "main", f"{address} {number}"))
        for number in (1, 2, 3)
    ]
    assert [one and one.conversation_id for one in found] == [
        conversation_id,
        conversation_id,
        UUID(other["conversation_id"]),
    ]


async def test_one_thread_holds_messages_of_several_channels(
    bench: Bench, inbound: InboundConsumer
) -> None:
    """Each is marked with its own, and an answer goes through the account that was written to."""
    await publish_channel(bench, OTHER, AccountStatus.ENABLED)
    agent, here, there = bench.neighbours.agent(), uuid4().hex, uuid4().hex
    both = (Address(channel=CHANNEL, address=here), Address(channel=OTHER, address=there))
    customer = bench.neighbours.add(Kind.CUSTOMER, *both)
    people = {"participants": [agent, customer], "primary_channel": CHANNEL}
    _, talk, _ = await bench.post("/conversations", people)
    body = {"conversation_id": talk["conversation_id"], "sender_id": agent, "content": "hi"}
    await bench.post("/messages", body)
    await inbound.handle(batch(written(here, 1)))
    await inbound.handle(batch(written(there, 2, channel=OTHER, account="second")))
    _, answered, _ = await bench.post("/messages", {**body, "channel": OTHER})
    _, page, _ = await bench.get(f"/conversations/{talk['conversation_id']}/messages")
    assert [(one["channel"], one["direction"]) for one in page["items"]] == [
        (CHANNEL, "OUTBOUND"),
        (CHANNEL, "INBOUND"),
        (OTHER, "INBOUND"),
        (OTHER, "OUTBOUND"),
    ]
    accepted = {one.message_id: one for one in bench.topics.on(CHAT_EVENTS)}
    (delivery,) = accepted[UUID(answered["message_id"])].deliveries
    assert (delivery.channel, delivery.account) == (OTHER, "second")


async def test_what_cannot_be_shown_is_kept(bench: Bench, inbound: InboundConsumer) -> None:
    """A kind that is not known yet is stored as it came and shown as unsupported."""
    record = written(uuid4().hex, content=None, raw='{"type":"sticker"}')
    await inbound.handle(batch(record))
    message_id = inbound_id(CHANNEL, "main", record.provider_message_id)
    stored = await bench.messages.find(message_id)
    assert stored is not None
    assert stored.raw == record.raw
    _, shown, _ = await bench.get(f"/messages/{message_id}")
    assert (shown["content"], shown["unsupported"]) == (None, True)


async def test_an_agent_marks_it_as_read(bench: Bench, inbound: InboundConsumer) -> None:
    """Reading shows in the message and is told; only what came in can be read."""
    record = written(uuid4().hex)
    await inbound.handle(batch(record))
    bench.topics.published.clear()
    message_id = inbound_id(CHANNEL, "main", record.provider_message_id)
    status, shown, _ = await bench.post(f"/messages/{message_id}/read", None)
    assert (status, shown["status"], shown["rev"]) == (200, "READ", 2)
    (event,) = bench.topics.on(CONVERSATION_EVENTS)
    assert (event.status, event.rev) == (Status.READ, 2)
    outbound = await sent(bench)
    status, problem, _ = await bench.post(f"/messages/{outbound.id}/read", None)
    assert (status, problem["code"]) == (422, "invalid_field")
    assert (await bench.post(f"/messages/{uuid4()}/read", None))[0] == 404
