"""The edges of the running platform: what is refused, repeated, signed, traced and measured."""

import asyncio
import os
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from chaos.adapters.consul import url_of
from chaos.adapters.platform import Platform
from chaos.workload import Lane, prepare

pytestmark = pytest.mark.cluster

SERVICES = ("api-gateway", "message", "router", "user")
APPEARS_DEADLINE_S = 10.0
POLL_S = 0.05


@pytest.fixture(scope="module")
async def lane(platform: Platform, channel: str) -> Lane:
    """Return a conversation with a customer."""
    return (await prepare(platform.api, channel, 1))[0]


@pytest.fixture
def message(lane: Lane) -> dict[str, Any]:
    """Return a message that would be accepted."""
    return {
        "conversation_id": lane.conversation_id,
        "sender_id": lane.sender_id,
        "content": f"hello {uuid4()}",
    }


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({"extra": 1}, 422, "unknown_field", "extra"),
        ({"content": None}, 422, "invalid_field", "content"),
        ({"content": ""}, 422, "invalid_field", "content"),
        ({"content": "a" * 10_001}, 422, "invalid_field", "content"),
        ({"content": "a\0"}, 422, "invalid_field", "content"),
        ({"message_id": "x"}, 422, "invalid_field", "message_id"),
        ({"conversation_id": "x"}, 422, "invalid_field", "conversation_id"),
        ({"conversation_id": str(uuid4())}, 422, "unknown_conversation", "conversation_id"),
        ({"sender_id": str(uuid4())}, 422, "unknown_user", "sender_id"),
        ({"channel": "CARRIER_PIGEON"}, 422, "unknown_channel", "channel"),
        ({"channel": "pigeon"}, 422, "invalid_field", "channel"),
        ({"reply_to": str(uuid4())}, 422, "unknown_reply", "reply_to"),
    ],
)
async def test_a_bad_message_is_refused_and_not_stored(
    platform: Platform,
    message: dict[str, Any],
    change: dict[str, Any],
    status: int,
    code: str,
    field: str,
) -> None:
    """Each mistake has its code and field, and its message does not exist afterwards."""
    message_id = str(uuid4())
    answered, problem, headers = await platform.api.call(
        "POST", "/messages", {"message_id": message_id, **message, **change}
    )
    assert (answered, problem["code"], problem.get("field")) == (status, code, field)
    assert problem["request_id"] == headers["X-Request-Id"]
    assert (await platform.api.call("GET", f"/messages/{message_id}"))[0] == 404


async def test_a_stranger_may_not_write(platform: Platform, message: dict[str, Any]) -> None:
    """A user who exists but takes no part in the conversation is refused."""
    stranger = await platform.api.create("users", {"kind": "AGENT", "name": "Stranger"})
    status, problem, _ = await platform.api.call(
        "POST", "/messages", {**message, "sender_id": stranger["user_id"]}
    )
    assert (status, problem["code"]) == (422, "not_a_participant")


async def test_a_recipient_without_an_address_is_refused(
    platform: Platform, message: dict[str, Any], channel: str
) -> None:
    """Nobody is written to who cannot be reached on the channel."""
    customer = await platform.api.create("users", {"kind": "CUSTOMER", "name": "Unreachable"})
    conversation = await platform.api.conversation(
        [message["sender_id"], customer["user_id"]], channel
    )
    status, problem, _ = await platform.api.call(
        "POST", "/messages", {**message, "conversation_id": conversation}
    )
    assert (status, problem["code"]) == (422, "no_identity")


async def test_the_same_message_again_is_one_message(
    platform: Platform, message: dict[str, Any], channel: str, lane: Lane
) -> None:
    """A repeated id is answered as before and delivered once; with another body it is refused."""
    body = {**message, "message_id": str(uuid4())}
    answers = await asyncio.gather(
        *(platform.api.call("POST", "/messages", body) for _ in range(9))
    )
    accepted = [str(answer) for status, answer, _ in answers if status == 202]
    assert len(set(accepted)) == 1
    assert {status for status, _, _ in answers} <= {202, 409}
    status, problem, _ = await platform.api.call("POST", "/messages", {**body, "content": "else"})
    assert (status, problem["code"]) == (409, "message_id_conflict")
    provider = await platform.provider(channel)

    async def received() -> int:
        return sum(r.text == body["content"] for r in await provider.receipts(to=lane.address))

    await _until(received)
    assert await received() == 1


async def test_a_channel_that_is_switched_off_takes_no_messages(
    platform: Platform, message: dict[str, Any], channel: str
) -> None:
    """The operator's switch holds everywhere within a moment, and back again."""

    async def outcome() -> tuple[int, str | None]:
        status, body, _ = await platform.api.call("POST", "/messages", message)
        return status, body.get("code")

    await platform.api.call("PATCH", f"/channels/{channel}", {"enabled": False})
    try:
        await _until(lambda: _is(outcome, (422, "channel_disabled")))
    finally:
        await platform.api.call("PATCH", f"/channels/{channel}", {"enabled": True})
    await _until(lambda: _is(outcome, (202, None)))


async def test_webhooks_that_were_not_signed_change_nothing(
    platform: Platform, channel: str
) -> None:
    """No signature, a wrong one, an unknown account or channel: refused, and nothing appears."""
    url = f"{os.environ['CHAT4ALL_URL']}/webhooks/{channel.lower()}"
    signed = {"X-Hub-Signature-256": "sha256=" + "0" * 64}
    for path, headers, status in (
        ("main", {}, 401),
        ("main", signed, 401),
        ("nobody", signed, 404),
    ):
        async with platform.session.post(f"{url}/{path}", data=b"{}", headers=headers) as answer:
            assert answer.status == status
    async with platform.session.post(f"{url}-x/main", data=b"{}") as answer:
        assert answer.status == 404
    async with platform.session.get(f"{url}/main?hub.mode=subscribe&hub.verify_token=x") as answer:
        assert answer.status == 403


async def test_what_a_customer_writes_finds_its_conversation(
    platform: Platform, channel: str, lane: Lane
) -> None:
    """A known customer's message is in their conversation once, a stranger's makes a new one."""
    provider = await platform.provider(channel)
    text = f"hi 👋 {uuid4()}"
    await provider.post("messages", {"from": lane.address, "text": text})
    path = f"/conversations/{lane.conversation_id}/messages?order=desc"

    async def found() -> list[Any]:
        _, body, _ = await platform.api.call("GET", path)
        return [item for item in body["items"] if item["content"] == text]

    await _until(found)
    (item,) = await found()
    assert (item["direction"], item["channel"]) == ("INBOUND", channel)


async def test_nothing_answers_without_a_key(platform: Platform) -> None:
    """The API is closed, the services behind it too; health and metrics are open."""
    for service in (None, *SERVICES):
        url = os.environ["CHAT4ALL_URL"]
        if service is not None:
            url = await url_of(platform.consul_url, service, platform.session)
        for path in ("/api/v1/messages", "/internal/people", "/"):
            async with platform.session.get(url + path) as answer:
                assert answer.status == 401
        for path in ("/health/live", "/health/ready", "/metrics"):
            async with platform.session.get(url + path) as answer:
                assert answer.status == 200


async def test_a_revoked_key_is_refused_at_once(platform: Platform) -> None:
    """Once its revocation is answered, no gateway takes a key any more."""
    body = {"name": "short-lived", "scopes": ["messages:read"]}
    made = await platform.api.create("api-keys", body)
    headers = {"Authorization": f"Bearer {made['key']}"}
    url = f"{os.environ['CHAT4ALL_URL']}/api/v1/messages/{uuid4()}"

    async def answers() -> set[int]:
        found = set()
        for _ in range(20):
            async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as a:
                found.add(a.status)
        return found

    assert await answers() == {404}
    await platform.api.call("DELETE", f"/api-keys/{made['key_id']}")
    assert await answers() == {401}


async def _is(look: Any, wanted: object) -> bool:
    return bool(await look() == wanted)


async def _until(look: Any) -> None:
    """Return as soon as a look finds something; TimeoutError after the deadline."""
    async with asyncio.timeout(APPEARS_DEADLINE_S):
        while not await look():
            await asyncio.sleep(POLL_S)
