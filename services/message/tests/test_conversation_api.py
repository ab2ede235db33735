"""The API of conversations and channels over a real socket, on real MongoDB."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from services.contracts.channels import SWITCHES_PREFIX, AccountStatus
from services.message.tests.conftest import CHANNEL, Bench, publish_channel, until

pytestmark = pytest.mark.connected


async def test_a_conversation_is_opened_and_shown(bench: Bench) -> None:
    """Who takes part is copied with their side, and nothing was said yet."""
    agent, customer = bench.neighbours.agent(), bench.neighbours.customer()
    status, opened, _ = await bench.post(
        "/conversations",
        {"participants": [agent, customer], "primary_channel": CHANNEL, "title": "Pedido"},
    )
    assert status == 201
    assert [(one["user_id"], one["kind"]) for one in opened["participants"]] == [
        (str(agent), "AGENT"),
        (str(customer), "CUSTOMER"),
    ]
    assert (opened["message_count"], opened["title"], opened["archived_at"]) == (0, "Pedido", None)
    status, shown, _ = await bench.get(f"/conversations/{opened['conversation_id']}")
    assert (status, shown) == (200, opened)


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"participants": []}, "invalid_field", "participants"),
        ({"participants": [UUID(int=1), UUID(int=1)]}, "invalid_field", "participants"),
        ({"participants": [uuid4() for _ in range(101)]}, "invalid_field", "participants"),
        ({"participants": [uuid4(), uuid4()]}, "unknown_user", "participants[0]"),
        ({"primary_channel": "PIGEON"}, "unknown_channel", "primary_channel"),
        ({"title": ""}, "invalid_field", "title"),
    ],
)
async def test_a_bad_conversation_is_refused(
    bench: Bench, change: dict[str, Any], code: str, field: str
) -> None:
    """Each mistake has its code and its field."""
    people = [bench.neighbours.agent(), bench.neighbours.customer()]
    body = {"participants": people, "primary_channel": CHANNEL, **change}
    status, problem, _ = await bench.post("/conversations", body)
    assert (status, problem["code"], problem["field"]) == (422, code, field)


async def test_people_join_and_leave(bench: Bench) -> None:
    """Joining twice changes nothing, leaving twice is not found, strangers are not added."""
    conversation_id, _, _ = await bench.talk()
    path, newcomer = f"/conversations/{conversation_id}/participants", bench.neighbours.agent()
    for _ in range(2):
        status, body, _ = await bench.post(path, {"user_id": newcomer})
        assert status == 200
        assert [one["user_id"] for one in body["participants"]].count(str(newcomer)) == 1
    status, problem, _ = await bench.post(path, {"user_id": uuid4()})
    assert (status, problem["code"]) == (422, "unknown_user")
    assert (await bench.call("DELETE", f"{path}/{newcomer}"))[0] == 204
    assert (await bench.call("DELETE", f"{path}/{newcomer}"))[0] == 404
    status, _, _ = await bench.post(f"/conversations/{uuid4()}/participants", {"user_id": newcomer})
    assert status == 404


async def test_at_most_100_people_take_part(bench: Bench) -> None:
    """The 101st is refused with what to do."""
    people = [bench.neighbours.agent() for _ in range(100)]
    _, opened, _ = await bench.post(
        "/conversations", {"participants": people, "primary_channel": CHANNEL}
    )
    path = f"/conversations/{opened['conversation_id']}/participants"
    status, problem, _ = await bench.post(path, {"user_id": bench.neighbours.agent()})
    assert (status, problem["code"], problem["field"]) == (422, "invalid_field", "user_id")


async def test_an_archived_conversation_comes_back_with_its_next_message(bench: Bench) -> None:
    """Archiving hides until something is said."""
    conversation_id, agent, _ = await bench.talk()
    _, archived, _ = await bench.post(f"/conversations/{conversation_id}/archive", None)
    assert archived["archived_at"] is not None
    await bench.post(
        "/messages", {"conversation_id": conversation_id, "sender_id": agent, "content": "hi"}
    )
    _, shown, _ = await bench.get(f"/conversations/{conversation_id}")
    assert (shown["archived_at"], shown["message_count"]) == (None, 1)
    assert shown["last_activity_at"] >= archived["last_activity_at"]


async def test_conversations_are_listed_by_participant(bench: Bench) -> None:
    """The newest first, page by page, each once, though new ones come meanwhile."""
    agent, opened = bench.neighbours.agent(), []
    for _ in range(5):
        body = {"participants": [agent, bench.neighbours.customer()], "primary_channel": CHANNEL}
        opened.append((await bench.post("/conversations", body))[1]["conversation_id"])
    path = f"/conversations?participant_id={agent}&limit=2"
    page = (await bench.get(path))[1]
    listed = [item["conversation_id"] for item in page["items"]]
    await bench.post("/conversations", body)
    while page["next_cursor"]:
        page = (await bench.get(f"{path}&cursor={page['next_cursor']}"))[1]
        listed += [item["conversation_id"] for item in page["items"]]
    assert listed == opened[::-1]
    status, problem, _ = await bench.get("/conversations?cursor=x")
    assert (status, problem["code"]) == (400, "invalid_query")


async def test_channels_show_what_they_can_and_are_switched(bench: Bench) -> None:
    """The operator's switch reaches the directory and with it every acceptance."""
    await publish_channel(bench, "PIGEON", AccountStatus.ENABLED)
    _, listed, _ = await bench.get("/channels")
    assert "PIGEON" in [item["channel"] for item in listed["items"]]
    status, body, _ = await bench.call("PATCH", "/channels/PIGEON", {"enabled": False})
    assert (status, body["enabled"]) == (200, False)

    async def off() -> bool:
        return not (await bench.get("/channels/PIGEON"))[1]["enabled"]

    await until(off)
    assert bench.neighbours.keys[SWITCHES_PREFIX + "PIGEON"] == b"off"
    _, shown, _ = await bench.get("/channels/PIGEON")
    assert (shown["accounts"][0]["account"], shown["accounts"][0]["status"]) == ("main", "ENABLED")
    assert (await bench.get("/channels/DOVE"))[0] == 404
