"""Groups over several channels, what agents say among themselves, and guarantees."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.contracts.channels import INTERNAL, AccountStatus
from services.contracts.topics import CHAT_EVENTS, CONVERSATION_EVENTS
from services.message.tests.conftest import CHANNEL, Bench, publish_channel

pytestmark = pytest.mark.connected
OTHER = "TELEGRAM"


@pytest.fixture(scope="module", autouse=True)
async def other_channel(bench: Bench) -> None:
    """A second channel that is enabled."""
    await publish_channel(bench, OTHER, AccountStatus.ENABLED)


async def group(bench: Bench, *people: UUID, channel: str = CHANNEL) -> str:
    """Open a conversation among people."""
    body = {"participants": people, "primary_channel": channel}
    status, answer, _ = await bench.post("/conversations", body)
    assert status == 201, answer
    return str(answer["conversation_id"])


async def write(bench: Bench, conversation_id: str, sender: UUID, **more: Any) -> tuple[int, Any]:
    """Post a message."""
    body = {"conversation_id": conversation_id, "sender_id": sender, "content": "Hi", **more}
    status, answer, _ = await bench.post("/messages", body)
    return status, answer


async def test_a_group_is_reached_everybody_where_they_are(bench: Bench) -> None:
    """One delivery for each customer, on the channel they are on, in one message."""
    agent, anna, bert = (
        bench.neighbours.agent(),
        bench.neighbours.customer(),
        bench.neighbours.customer(OTHER),
    )
    conversation = await group(bench, agent, anna, bert)
    status, answer = await write(bench, conversation, agent)
    assert status == 202
    _, shown, _ = await bench.get(f"/messages/{answer['message_id']}/status")
    found = {(UUID(one["recipient_id"]), one["channel"]) for one in shown["deliveries"]}
    assert found == {(anna, CHANNEL), (bert, OTHER)}
    (record,) = [
        one for one in bench.topics.on(CHAT_EVENTS) if one.message_id == UUID(answer["message_id"])
    ]
    assert {(one.recipient_id, one.channel) for one in record.deliveries} == found


async def test_a_channel_that_is_named_is_for_everybody(bench: Bench) -> None:
    """Who is not there makes the message impossible, rather than be left out."""
    agent, anna, bert = (
        bench.neighbours.agent(),
        bench.neighbours.customer(),
        bench.neighbours.customer(OTHER),
    )
    conversation = await group(bench, agent, anna, bert)
    status, problem = await write(bench, conversation, agent, channel=CHANNEL)
    assert (status, problem["code"]) == (422, "no_identity")


async def test_a_hundred_take_part_and_no_more(bench: Bench) -> None:
    """A message to 99 customers has 99 deliveries; 101 participants are refused."""
    agent = bench.neighbours.agent()
    customers = [bench.neighbours.customer() for _ in range(100)]
    body = {"participants": [agent, *customers], "primary_channel": CHANNEL}
    status, problem, _ = await bench.post("/conversations", body)
    assert (status, problem["field"]) == (422, "participants")
    conversation = await group(bench, agent, *customers[:99])
    _, answer = await write(bench, conversation, agent)
    _, shown, _ = await bench.get(f"/messages/{answer['message_id']}/status")
    assert len(shown["deliveries"]) == 99


async def test_what_agents_say_among_themselves_stays_here(bench: Bench) -> None:
    """An internal message is delivered at once, published to watchers alone, and read by each."""
    ada, eve, anna = (
        bench.neighbours.agent(),
        bench.neighbours.agent(),
        bench.neighbours.customer(),
    )
    conversation = await group(bench, ada, eve, anna)
    status, answer = await write(bench, conversation, ada, channel=INTERNAL)
    assert status == 202
    path = f"/messages/{answer['message_id']}"
    _, shown, _ = await bench.get(f"{path}/status")
    assert [(UUID(d["recipient_id"]), d["status"]) for d in shown["deliveries"]] == [
        (eve, "DELIVERED")
    ]
    message_id = UUID(answer["message_id"])
    assert message_id not in {one.message_id for one in bench.topics.on(CHAT_EVENTS)}
    assert message_id in {one.message_id for one in bench.topics.on(CONVERSATION_EVENTS)}
    for stranger in ({"user_id": anna}, {"user_id": ada}, {}):
        status, problem, _ = await bench.post(f"{path}/read", stranger)
        assert (status, problem["field"]) == (422, "user_id")
    for _ in range(2):
        status, read, _ = await bench.post(f"{path}/read", {"user_id": eve})
        assert (status, read["status"], read["rev"]) == (200, "READ", 2)


async def test_agents_have_conversations_of_their_own(bench: Bench) -> None:
    """Without a customer everything is internal."""
    ada, eve = bench.neighbours.agent(), bench.neighbours.agent()
    conversation = await group(bench, ada, eve, channel=INTERNAL)
    status, answer = await write(bench, conversation, ada)
    assert status == 202
    _, shown, _ = await bench.get(f"/messages/{answer['message_id']}")
    assert (shown["channel"], shown["status"]) == (INTERNAL, "DELIVERED")


async def test_the_guarantee_goes_with_the_message(bench: Bench) -> None:
    """Who prefers twice over perhaps never says so with the message."""
    agent, anna = bench.neighbours.agent(), bench.neighbours.customer()
    conversation = await group(bench, agent, anna)
    for guarantee, expected in ((None, False), ("AT_MOST_ONCE", False), ("AT_LEAST_ONCE", True)):
        more = {"guarantee": guarantee} if guarantee else {}
        _, answer = await write(bench, conversation, agent, **more)
        (record,) = [
            one
            for one in bench.topics.on(CHAT_EVENTS)
            if one.message_id == UUID(answer["message_id"])
        ]
        assert record.at_least_once is expected
    status, problem = await write(bench, conversation, agent, guarantee="EXACTLY_ONCE")
    assert (status, problem["field"]) == (422, "guarantee")


async def test_the_same_request_twice_at_once_is_worked_on_once(bench: Bench) -> None:
    """While the first is in progress the second is told to come again, and then is answered."""
    agent, anna = bench.neighbours.agent(), bench.neighbours.customer()
    conversation = await group(bench, agent, anna)
    body = {
        "message_id": uuid4(),
        "conversation_id": conversation,
        "sender_id": agent,
        "content": "once",
    }
    answers = await asyncio.gather(*(bench.post("/messages", body) for _ in range(5)))
    statuses = [status for status, _, _ in answers]
    assert set(statuses) <= {202, 409}
    assert 202 in statuses
    for status, problem, headers in answers:
        if status == 409:
            assert (problem["code"], headers["Retry-After"]) == ("in_progress", "1")
    status, _, headers = await bench.post("/messages", body)
    assert (status, headers["Idempotency-Replay"]) == (202, "true")
    _, shown, _ = await bench.get(f"/conversations/{conversation}")
    assert shown["message_count"] == 1
