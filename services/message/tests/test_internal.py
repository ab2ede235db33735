"""What agents say among themselves is announced whatever happens to its first request."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from services.contracts.channels import INTERNAL
from services.contracts.records import ConversationChanged
from services.contracts.status import Status
from services.contracts.topics import CHAT_EVENTS, CONVERSATION_EVENTS
from services.message.tests.conftest import Bench

pytestmark = pytest.mark.connected


async def unannounced(bench: Bench) -> tuple[dict[str, Any], UUID]:
    """Post an internal message while Kafka is away; return its body and who it is for."""
    ada, eve = bench.neighbours.agent(), bench.neighbours.agent()
    _, talk, _ = await bench.post(
        "/conversations", {"participants": [ada, eve], "primary_channel": INTERNAL}
    )
    body = {
        "message_id": uuid4(),
        "conversation_id": talk["conversation_id"],
        "sender_id": ada,
        "content": "Between us",
    }
    bench.topics.away = True
    status, problem, headers = await bench.post("/messages", body)
    bench.topics.away = False
    assert (status, problem["code"], headers["Retry-After"]) == (503, "unavailable", "1")
    assert await bench.messages.find(body["message_id"]) is not None
    assert announced(bench, body) == []
    return body, eve


def announced(bench: Bench, body: dict[str, Any]) -> list[tuple[Status, int]]:
    """Return which states of a message watchers were told, each with its revision."""
    events: list[ConversationChanged] = bench.topics.on(CONVERSATION_EVENTS)
    return [(one.status, one.rev) for one in events if one.message_id == body["message_id"]]


async def test_a_repetition_announces_what_could_not_be_announced(bench: Bench) -> None:
    """Its client was told to repeat the request: then those who watch see the message."""
    body, _ = await unannounced(bench)
    status, _, headers = await bench.post("/messages", body)
    assert (status, headers["Idempotency-Replay"]) == (202, "true")
    assert announced(bench, body) == [(Status.DELIVERED, 1)]
    assert body["message_id"] not in {one.message_id for one in bench.topics.on(CHAT_EVENTS)}


async def test_a_repetition_announces_the_message_as_it_is_now(bench: Bench) -> None:
    """Read meanwhile by somebody who found it in the history, it is not announced as unread."""
    body, eve = await unannounced(bench)
    await bench.post(f"/messages/{body['message_id']}/read", {"user_id": eve})
    told = len(announced(bench, body))
    assert (await bench.post("/messages", body))[0] == 202
    assert announced(bench, body)[told:] == [(Status.READ, 2)]
