"""Dead letters: kept, listed, sent again in their order, dropped with a reason."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.contracts.records import (
    Attempt,
    DeadLetter,
    MessageAccepted,
    Reason,
    StatusChanged,
    encode,
)
from services.contracts.status import OUTCOME_UNKNOWN, Status
from services.contracts.topics import CHAT_EVENTS
from services.message.consumer import StatusConsumer
from services.message.letters import of_record
from services.message.messages import Message, now
from services.message.tests.conftest import CHANNEL, Bench
from services.message.tests.test_consumer import batch

pytestmark = pytest.mark.connected


async def accepted(bench: Bench, conversation: UUID, agent: UUID) -> Message:
    """Post a message and return it as it is stored."""
    body = {"conversation_id": conversation, "sender_id": agent, "content": "Hi"}
    status, answer, _ = await bench.post("/messages", body)
    assert status == 202
    stored = await bench.messages.find(UUID(answer["message_id"]))
    assert stored is not None
    return stored


def told(message: Message, status: Status, code: str | None = None, replay: int = 0) -> Any:
    """Return what a connector reports of a message's delivery."""
    return StatusChanged(
        message_id=message.id,
        conversation_id=message.conversation_id,
        recipient_id=message.deliveries[0].recipient_id,
        channel=CHANNEL,
        status=status,
        at=now(),
        observed_at=now(),
        reason=Reason(code, "A sentence.") if code else None,
        replay_no=replay,
        attempts=(Attempt(now(), code, "A sentence."),) if code else (),
    )


async def letters(bench: Bench, conversation: UUID, state: str = "OPEN") -> list[Any]:
    """Return the letters of a conversation in a state."""
    query = f"?conversation_id={conversation}&state={state}"
    status, body, _ = await bench.get(f"/dead-letters{query}")
    assert status == 200, body
    return list(body["items"])


async def test_a_failure_is_a_letter_with_its_attempts(bench: Bench) -> None:
    """It is kept once, however often it is reported, and shown with what was tried."""
    conversation, agent, _ = await bench.talk()
    consumer = StatusConsumer(bench.messages, bench.letters, bench.topics)
    message = await accepted(bench, conversation, agent)
    failed = told(message, Status.FAILED, "provider_1")
    for _ in range(2):
        await consumer.handle(batch(failed))
    (letter,) = await letters(bench, conversation)
    assert letter["delivery"]["message_id"] == str(message.id)
    assert [attempt["code"] for attempt in letter["attempts"]] == ["provider_1"]
    _, shown, _ = await bench.get(f"/dead-letters/{letter['letter_id']}")
    assert shown == letter


async def test_late_evidence_takes_a_letter_back(bench: Bench) -> None:
    """What was given up and turns out to be delivered is no dead letter."""
    conversation, agent, _ = await bench.talk()
    consumer = StatusConsumer(bench.messages, bench.letters, bench.topics)
    message = await accepted(bench, conversation, agent)
    await consumer.handle(batch(told(message, Status.FAILED, OUTCOME_UNKNOWN)))
    assert len(await letters(bench, conversation)) == 1
    await consumer.handle(batch(told(message, Status.DELIVERED)))
    assert await letters(bench, conversation) == []


async def test_letters_are_sent_again_in_their_order(bench: Bench) -> None:
    """A replay is pending under the next number, published once, and closed for good."""
    conversation, agent, _ = await bench.talk()
    consumer = StatusConsumer(bench.messages, bench.letters, bench.topics)
    sent = [await accepted(bench, conversation, agent) for _ in range(3)]
    for message in reversed(sent):
        await consumer.handle(batch(told(message, Status.FAILED, "provider_1")))
    bench.topics.published.clear()
    ids = [letter["letter_id"] for letter in await letters(bench, conversation)]
    status, done, _ = await bench.post("/dead-letters/batch/replay", {"letter_ids": ids})
    assert status == 200, done
    assert {one["state"] for one in done["items"]} == {"REPLAYED"}
    again: list[MessageAccepted] = bench.topics.on(CHAT_EVENTS)
    assert [record.message_id for record in again] == [message.id for message in sent]
    assert {record.deliveries[0].replay_no for record in again} == {1}
    _, shown, _ = await bench.get(f"/messages/{sent[0].id}")
    assert shown["status"] == "PENDING"
    status, problem, _ = await bench.post(f"/dead-letters/{ids[0]}/replay", None)
    assert (status, problem["code"]) == (409, "already_resolved")
    await consumer.handle(batch(told(sent[0], Status.FAILED, "provider_1")))
    _, shown, _ = await bench.get(f"/messages/{sent[0].id}")
    assert shown["status"] == "PENDING"
    await consumer.handle(batch(told(sent[0], Status.FAILED, "provider_2", replay=1)))
    (new,) = await letters(bench, conversation)
    assert (new["reason"]["code"], new["delivery"]["replay_no"]) == ("provider_2", 1)


async def test_a_letter_is_dropped_with_a_reason(bench: Bench) -> None:
    """Who gave it up, when and why stays with it."""
    conversation, agent, _ = await bench.talk()
    consumer = StatusConsumer(bench.messages, bench.letters, bench.topics)
    message = await accepted(bench, conversation, agent)
    await consumer.handle(batch(told(message, Status.FAILED, "provider_1")))
    (letter,) = await letters(bench, conversation)
    path = f"/dead-letters/{letter['letter_id']}/drop"
    assert (await bench.post(path, {}))[0] == 422
    status, dropped, _ = await bench.post(path, {"reason": "moved away"})
    assert (status, dropped["state"]) == (200, "DROPPED")
    assert [one["reason"] for one in dropped["actions"]] == ["moved away"]
    assert (await bench.post(path, {"reason": "again"}))[0] == 409
    assert (await bench.post(f"/dead-letters/{uuid4()}/drop", {"reason": "x"}))[0] == 404


async def test_a_record_is_put_back_where_it_stood(bench: Bench) -> None:
    """One that can be read by now is published again; one that cannot stays."""
    conversation, agent, _ = await bench.talk()
    message = await accepted(bench, conversation, agent)
    readable, poison = (
        DeadLetter(
            topic=CHAT_EVENTS,
            partition=1,
            offset=offset,
            key=uuid4().bytes.hex().encode(),
            value=value,
            reason=Reason("handler_failed", "A sentence."),
            at=now() + timedelta(seconds=offset),
        )
        for offset, value in enumerate((encode(message.accepted()), b"{"))
    )
    found = [of_record(record) for record in (readable, poison)]
    await bench.letters.add(found)
    bench.topics.published.clear()
    status, done, _ = await bench.post(f"/dead-letters/{found[0].id}/replay", None)
    assert (status, done["state"], done["record"]["topic"]) == (200, "REPLAYED", CHAT_EVENTS)
    assert bench.topics.on(CHAT_EVENTS) == [message.accepted()]
    status, problem, _ = await bench.post(f"/dead-letters/{found[1].id}/replay", None)
    assert (status, problem["code"]) == (422, "not_replayable")


async def test_the_list_goes_on_where_it_ended(bench: Bench) -> None:
    """Pages neither repeat nor leave out, whatever has the same time."""
    conversation, agent, _ = await bench.talk()
    consumer = StatusConsumer(bench.messages, bench.letters, bench.topics)
    sent = [await accepted(bench, conversation, agent) for _ in range(5)]
    await consumer.handle(batch(*(told(one, Status.FAILED, "provider_1") for one in sent)))
    path, found = f"/dead-letters?conversation_id={conversation}&limit=2", []
    cursor: str | None = ""
    while cursor is not None:
        _, body, _ = await bench.get(f"{path}&cursor={cursor}" if cursor else path)
        found += [one["delivery"]["message_id"] for one in body["items"]]
        cursor = body["next_cursor"]
    assert sorted(found) == sorted(str(one.id) for one in sent)
