"""The API of messages over a real socket, on real MongoDB."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from services.contracts.channels import AccountStatus
from services.contracts.people import Kind
from services.contracts.records import MessageAccepted
from services.contracts.topics import CHAT_EVENTS
from services.message.conversations import Participant
from services.message.history import History
from services.message.messages import now
from services.message.tests.conftest import CHANNEL, Bench, publish_channel

pytestmark = pytest.mark.connected
CLOSED = "TELEGRAM"


@pytest.fixture(scope="module", autouse=True)
async def closed_channel(bench: Bench) -> None:
    """A channel whose only account was refused by its provider."""
    await publish_channel(bench, CLOSED, AccountStatus.REFUSED)


async def draft(bench: Bench, **more: Any) -> dict[str, Any]:
    """Return the body of a message in a conversation of its own."""
    conversation_id, agent, _ = await bench.talk()
    return {
        "conversation_id": conversation_id,
        "sender_id": agent,
        "content": "Olá 👋🏽",
        **more,
    }


def published(bench: Bench, message_id: str) -> list[MessageAccepted]:
    """Return the records that sent a message on its way."""
    records: list[MessageAccepted] = bench.topics.on(CHAT_EVENTS)
    return [record for record in records if record.message_id == UUID(message_id)]


async def count(bench: Bench, conversation_id: UUID) -> int:
    """Return how many messages a conversation counts."""
    await bench.history.counted()
    conversation = await bench.conversations.find(conversation_id)
    assert conversation is not None
    return conversation.message_count


async def test_the_answer_names_what_is_stored_and_published(bench: Bench) -> None:
    """When the 202 comes, MongoDB and Kafka have the message, its delivery frozen."""
    body = await draft(bench)
    status, answer, headers = await bench.post("/messages", body)
    assert (status, answer["status"]) == (202, "PENDING")
    assert "Idempotency-Replay" not in headers
    (record,) = published(bench, answer["message_id"])
    stored = await bench.messages.find(UUID(answer["message_id"]))
    assert stored is not None
    assert (stored.seq, stored.content, record.content) == (1, "Olá 👋🏽", "Olá 👋🏽")
    assert stored.accepted() == record
    assert UUID(answer["message_id"]).version == 7
    assert answer["timestamp"].endswith("Z")
    assert len(answer["timestamp"]) == len("2026-01-02T03:04:05.678Z")


async def test_a_message_and_its_status_are_shown(bench: Bench) -> None:
    """What was accepted is found under its id, in its history and by its status."""
    body = await draft(bench)
    _, accepted, _ = await bench.post("/messages", body)
    message_id = accepted["message_id"]
    status, shown, _ = await bench.get(f"/messages/{message_id}")
    assert (status, shown["content"], shown["direction"]) == (200, body["content"], "OUTBOUND")
    assert shown["timestamp"] == accepted["timestamp"]
    _, where, _ = await bench.get(f"/messages/{message_id}/status")
    (delivery,) = where["deliveries"]
    assert [entry["status"] for entry in delivery["history"]] == ["PENDING"]
    _, page, _ = await bench.get(f"/messages?conversation_id={body['conversation_id']}")
    assert page == {"items": [shown], "next_cursor": None}


async def test_the_same_message_again_gets_the_stored_answer(bench: Bench) -> None:
    """A repeated id delivers once, counts once, and is answered as before."""
    body = await draft(bench, message_id=uuid4())
    _, first, _ = await bench.post("/messages", body)
    status, second, headers = await bench.post("/messages", body)
    assert (status, second, headers["Idempotency-Replay"]) == (202, first, "true")
    assert await count(bench, body["conversation_id"]) == 1


async def test_another_body_under_the_same_id_is_refused(bench: Bench) -> None:
    """An id names one message for ever."""
    body = await draft(bench, message_id=uuid4())
    await bench.post("/messages", body)
    status, problem, _ = await bench.post("/messages", {**body, "content": "else"})
    assert (status, problem["code"]) == (409, "message_id_conflict")
    assert await count(bench, body["conversation_id"]) == 1


async def test_an_idempotency_key_names_one_message(bench: Bench) -> None:
    """The same key and body replay the answer, another body is refused, another caller is free."""
    body, key = await draft(bench), {"Idempotency_Key": uuid4().hex, "X_Api_Key_Id": "anna"}
    _, first, _ = await bench.post("/messages", body, **key)
    status, second, headers = await bench.post("/messages", body, **key)
    assert (status, second, headers["Idempotency-Replay"]) == (202, first, "true")
    status, problem, _ = await bench.post("/messages", {**body, "content": "else"}, **key)
    assert (status, problem["code"]) == (422, "idempotency_key_conflict")
    status, problem, _ = await bench.post("/messages", {**body, "message_id": uuid4()}, **key)
    assert (status, problem["code"]) == (422, "idempotency_key_conflict")
    _, other, _ = await bench.post("/messages", body, **{**key, "X_Api_Key_Id": "bert"})
    assert other["message_id"] != first["message_id"]


async def test_what_was_accepted_is_answered_even_when_it_would_be_refused_now(
    bench: Bench,
) -> None:
    """A repetition after the sender left still gets its answer."""
    body = await draft(bench, message_id=uuid4())
    _, first, _ = await bench.post("/messages", body)
    await bench.call(
        "DELETE", f"/conversations/{body['conversation_id']}/participants/{body['sender_id']}"
    )
    status, second, _ = await bench.post("/messages", body)
    assert (status, second) == (202, first)


async def test_without_kafka_nothing_is_acknowledged_and_a_repetition_publishes(
    bench: Bench,
) -> None:
    """The message is stored, the answer is 503, and the same post again sends it on its way."""
    body = await draft(bench, message_id=uuid4())
    bench.topics.away = True
    status, problem, headers = await bench.post("/messages", body)
    bench.topics.away = False
    assert (status, problem["code"], headers["Retry-After"]) == (503, "unavailable", "1")
    assert not published(bench, str(body["message_id"]))
    status, _, _ = await bench.post("/messages", body)
    assert status == 202
    assert len(published(bench, str(body["message_id"]))) == 1


async def test_the_user_service_away_is_not_noticed_by_those_known(bench: Bench) -> None:
    """A customer reached a moment ago is reached still; a stranger waits with 503."""
    known, unknown = await draft(bench), await draft(bench)
    stranger = Participant(user_id=bench.neighbours.customer(), kind=Kind.CUSTOMER, joined_at=now())
    await bench.conversations.add_participant(unknown["conversation_id"], stranger)
    bench.neighbours.user_away = True
    statuses = [(await bench.post("/messages", body))[0] for body in (known, unknown)]
    bench.neighbours.user_away = False
    assert statuses == [202, 503]
    assert (await bench.post("/messages", unknown))[0] == 202


async def test_a_reply_names_a_message_of_its_conversation(bench: Bench) -> None:
    """Only what was said in the same conversation can be replied to."""
    body, elsewhere = await draft(bench), await draft(bench)
    _, here, _ = await bench.post("/messages", body)
    _, there, _ = await bench.post("/messages", elsewhere)
    status, reply, _ = await bench.post("/messages", {**body, "reply_to": here["message_id"]})
    assert status == 202
    assert published(bench, reply["message_id"])[0].reply_to == UUID(here["message_id"])
    for reply_to in (there["message_id"], uuid4()):
        status, problem, _ = await bench.post("/messages", {**body, "reply_to": reply_to})
        assert (status, problem["code"]) == (422, "unknown_reply")


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({"content": ""}, 422, "invalid_field", "content"),
        ({"content": "x" * 10_001}, 422, "invalid_field", "content"),
        ({"content": "a\0b"}, 422, "invalid_field", "content"),
        ({"content": 7}, 422, "invalid_field", "content"),
        ({"content": None}, 422, "invalid_field", "content"),
        ({"message_id": "seven"}, 422, "invalid_field", "message_id"),
        ({"conversation_id": "seven"}, 422, "invalid_field", "conversation_id"),
        ({"conversation_id": uuid4()}, 422, "unknown_conversation", "conversation_id"),
        ({"sender_id": uuid4()}, 422, "unknown_user", "sender_id"),
        ({"channel": "PIGEON"}, 422, "unknown_channel", "channel"),
        ({"channel": "pigeon"}, 422, "invalid_field", "channel"),
        ({"channel": CLOSED}, 422, "channel_disabled", "channel"),
        ({"colour": "red"}, 422, "unknown_field", "colour"),
    ],
)
async def test_a_bad_message_is_refused_and_not_stored(
    bench: Bench, change: dict[str, Any], status: int, code: str, field: str
) -> None:
    """Each mistake has its code and its field, and leaves nothing behind."""
    body = await draft(bench)
    answered, problem, headers = await bench.post("/messages", {**body, **change})
    assert (answered, problem["code"], problem["field"]) == (status, code, field)
    assert problem["request_id"] == headers["X-Request-Id"]
    assert headers["Content-Type"] == "application/problem+json"
    assert await count(bench, body["conversation_id"]) == 0


@pytest.mark.parametrize("missing", ["conversation_id", "sender_id", "content"])
async def test_a_missing_field_is_named(bench: Bench, missing: str) -> None:
    """What is required and not there is said."""
    body = await draft(bench)
    del body[missing]
    status, problem, _ = await bench.post("/messages", body)
    assert (status, problem["code"], problem["field"]) == (422, "missing_field", missing)


async def test_a_stranger_does_not_send(bench: Bench) -> None:
    """A user who exists but does not take part is told so."""
    body = await draft(bench, sender_id=bench.neighbours.agent())
    status, problem, _ = await bench.post("/messages", body)
    assert (status, problem["code"]) == (422, "not_a_participant")


async def test_who_just_joined_sends_at_once(bench: Bench) -> None:
    """What is remembered of a conversation never refuses somebody who takes part by now."""
    body = await draft(bench)
    await bench.post("/messages", body)
    newcomer = bench.neighbours.agent()
    await bench.post(
        f"/conversations/{body['conversation_id']}/participants", {"user_id": newcomer}
    )
    status, _, _ = await bench.post("/messages", {**body, "sender_id": newcomer})
    assert status == 202


async def test_who_just_left_gets_nothing(bench: Bench) -> None:
    """Deliveries are frozen from those who take part now, not from what is remembered."""
    body = await draft(bench)
    second = bench.neighbours.customer()
    path = f"/conversations/{body['conversation_id']}/participants"
    await bench.post(path, {"user_id": second})
    _, both, _ = await bench.post("/messages", body)
    elsewhere = History(bench.mongo, bench.messages)
    await bench.conversations.remove_participant(body["conversation_id"], second)
    await elsewhere.fence(UUID(str(body["conversation_id"])))
    _, one, _ = await bench.post("/messages", body)
    assert [
        len(published(bench, answer["message_id"])[0].deliveries) for answer in (both, one)
    ] == [2, 1]


async def test_a_customer_without_an_address_is_not_written_to(bench: Bench) -> None:
    """The refusal comes at acceptance, not from the provider."""
    agent, customer = bench.neighbours.agent(), bench.neighbours.customer(CLOSED)
    _, talk, _ = await bench.post(
        "/conversations", {"participants": [agent, customer], "primary_channel": CHANNEL}
    )
    status, problem, _ = await bench.post(
        "/messages",
        {"conversation_id": talk["conversation_id"], "sender_id": agent, "content": "hello"},
    )
    assert (status, problem["code"]) == (422, "no_identity")


@pytest.mark.parametrize("path", ["/messages/{}", "/messages/{}/status", "/conversations/{}"])
async def test_what_does_not_exist_is_not_found(bench: Bench, path: str) -> None:
    """An unknown id is a 404, what is no id a 422."""
    assert (await bench.get(path.format(uuid4())))[0] == 404
    assert (await bench.get(path.format("seven")))[0] == 422


async def test_nobody_passes_by_the_gateway(bench: Bench) -> None:
    """Without the installation's token nothing is answered."""
    async with bench.client.get("/api/v1/channels", headers={"Authorization": "Bearer x"}) as it:
        assert it.status == 401


async def test_a_history_is_paged_while_messages_arrive(bench: Bench) -> None:
    """Every message is seen once, in order, both ways round."""
    body = await draft(bench)
    for number in range(5):
        await bench.post("/messages", {**body, "content": f"{number}"})
    seen: dict[str, list[int]] = {"asc": [], "desc": []}
    for order, places in seen.items():
        path = f"/conversations/{body['conversation_id']}/messages?limit=2&order={order}"
        cursor = ""
        while cursor is not None:
            _, page, _ = await bench.get(path + (f"&cursor={cursor}" if cursor else ""))
            places += [item["seq"] for item in page["items"]]
            cursor = page["next_cursor"]
            if len(places) == 2:
                await bench.post("/messages", body)
    assert seen["asc"] == [1, 2, 3, 4, 5, 6]
    assert seen["desc"] == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "cursor=x", "order=up", "a=b"]
)
async def test_a_bad_query_is_refused(bench: Bench, query: str) -> None:
    """Limits, cursors and orders are checked."""
    conversation_id, _, _ = await bench.talk()
    status, problem, _ = await bench.get(f"/messages?conversation_id={conversation_id}&{query}")
    assert (status, problem["code"]) == (400, "invalid_query")
