"""The simulated Telegram Bot API, asked by plain HTTP."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.connectors.telegram.tests.simulated import (
    CHAT,
    MAIN,
    SECOND,
    World,
    simulator,
)
from services.connectors.tests.simulated import Body


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh simulator."""
    async with simulator(tmp_path) as made:
        yield made


def multipart() -> aiohttp.FormData:
    """Return a form with parts."""
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("chat_id", str(CHAT))
    form.add_field("text", "olá")
    return form


ASKED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "query": ("GET", "sendMessage", {"params": {"chat_id": str(CHAT), "text": "olá"}}),
    "form": ("POST", "sendMessage", {"data": {"chat_id": str(CHAT), "text": "olá"}}),
    "multipart": ("POST", "sendMessage", {"data": multipart}),
    "JSON": ("POST", "sendMessage", {"json": {"chat_id": CHAT, "text": "olá"}}),
    "JSON, chat as text": ("POST", "sendMessage", {"json": {"chat_id": str(CHAT), "text": "olá"}}),
    "any case": ("POST", "SENDmessage", {"json": {"chat_id": CHAT, "text": "olá"}}),
    "both": ("POST", "sendMessage", {"params": {"chat_id": str(CHAT)}, "json": {"text": "olá"}}),
}


@pytest.mark.parametrize(("http", "method", "how"), ASKED.values(), ids=ASKED)
async def test_arguments_come_in_every_form(
    world: World, http: str, method: str, how: dict[str, Any]
) -> None:
    """Query, form, multipart and JSON say the same; the message is kept, named and witnessed."""
    given = {key: value() if callable(value) else value for key, value in how.items()}
    url = f"{world.url}/bot{MAIN.bot_token}/{method}"
    async with world.session.request(http, url, **given) as answer:
        assert answer.status == 200
        body = await answer.json()
    sent = body["result"]
    assert body.keys() == {"ok", "result"}
    assert (sent["text"], sent["chat"]["id"], sent["chat"]["type"]) == ("olá", CHAT, "private")
    assert (sent["from"]["is_bot"], sent["from"]["username"]) == (True, "main_bot")
    (receipt,) = await world.receipts()
    assert receipt["provider_id"] == f"{CHAT}:{sent['message_id']}"
    assert (receipt["account"], receipt["to"], receipt["text"]) == ("main", str(CHAT), "olá")
    assert (receipt["kept"], receipt["answer"], receipt["type"]) == (True, 200, "text")
    assert receipt["received_at"] <= receipt["answered_at"]


REFUSED: dict[str, tuple[Body, str]] = {
    "no chat": ({"chat_id": None}, "chat_id is empty"),
    "empty chat": ({"chat_id": ""}, "chat_id is empty"),
    "unknown name": ({"chat_id": "@nobody"}, "chat not found"),
    "chat zero": ({"chat_id": 0}, "chat not found"),
    "no text": ({"text": None}, "message text is empty"),
    "blank text": ({"text": " \n"}, "text must be non-empty"),
    "text of 4097 characters": ({"text": "x" * 4097}, "message is too long"),
    "text of 2049 emoji": ({"text": "🙂" * 2049}, "message is too long"),
    "unknown parse mode": ({"parse_mode": "BBCode"}, "unsupported parse_mode"),
    "reply to nothing": (
        {"reply_parameters": {"message_id": 0}},
        "message to be replied not found",
    ),
    "broken reply": ({"reply_parameters": "["}, "can't parse reply parameters JSON object"),
    "reply to a word": (
        {"reply_parameters": {"message_id": "last"}},
        "can't parse reply parameters JSON object",
    ),
}


@pytest.mark.parametrize(("changes", "description"), REFUSED.values(), ids=REFUSED)
async def test_refuses(world: World, changes: Body, description: str) -> None:
    """What cannot be sent is refused with the provider's own sentence, and nothing is kept."""
    status, answer = await world.send(**changes)
    assert status == 400
    expected = {"ok": False, "error_code": 400, "description": f"Bad Request: {description}"}
    assert answer == expected
    (receipt,) = await world.receipts()
    assert (receipt["kept"], receipt["answer"], receipt["error_code"]) == (False, 400, 400)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"text": "x" * 4096}, id="longest text"),
        pytest.param({"text": "🙂" * 2048}, id="longest text of emoji"),
        pytest.param({"chat_id": -1001234567890}, id="supergroup"),
        pytest.param({"parse_mode": "HTML", "disable_notification": True}, id="other arguments"),
        pytest.param({"unheard_of": [1, {"a": None}]}, id="unknown argument"),
    ],
)
async def test_accepts(world: World, changes: Body) -> None:
    """Everything that may be asked passes; unknown arguments are not looked at."""
    status, answer = await world.send(**changes)
    assert (status, answer["ok"]) == (200, True)


async def test_replies_name_their_original(world: World) -> None:
    """A reply shows what it replies to; a lost original can be passed over."""
    name = await world.write("oi")
    number = int(name.partition(":")[2])
    _, answer = await world.send(reply_parameters={"message_id": number})
    assert answer["result"]["reply_to_message"]["message_id"] == number
    _, answer = await world.send(reply_to_message_id=number)
    assert answer["result"]["reply_to_message"]["message_id"] == number
    lost = {"message_id": 2**40, "allow_sending_without_reply": True}
    status, answer = await world.send(reply_parameters=lost)
    assert (status, "reply_to_message" in answer["result"]) == (200, False)


UNKNOWN = "7777777:token-of-nobody-at-all"
UNAUTHORIZED = "Unauthorized: invalid token specified"
ASTRAY = {
    "unknown token": ("GET", f"/bot{UNKNOWN}/getMe", 401, "Unauthorized"),
    "no number": ("GET", "/botmain/getMe", 401, UNAUTHORIZED),
    "number zero": ("GET", "/bot0:x/getMe", 401, UNAUTHORIZED),
    "long token": ("GET", f"/bot1:{'x' * 80}/getMe", 401, UNAUTHORIZED),
    "unknown token, message": ("POST", f"/bot{UNKNOWN}/sendMessage", 401, "Unauthorized"),
    "no method": ("GET", f"/bot{MAIN.bot_token}/", 404, "Not Found"),
    "no bot": ("GET", "/getMe", 404, "Not Found"),
    "unknown method": (
        "POST",
        f"/bot{MAIN.bot_token}/sendFax",
        404,
        "Not Found: method not found",
    ),
    "unknown HTTP method": ("PUT", f"/bot{MAIN.bot_token}/getMe", 501, "Not Implemented"),
}


@pytest.mark.parametrize(("http", "path", "status", "description"), ASTRAY.values(), ids=ASTRAY)
async def test_leads_nowhere(
    world: World, http: str, path: str, status: int, description: str
) -> None:
    """Without the right token, path or method the answer says which is wrong."""
    async with world.session.request(http, world.url + path) as answer:
        assert answer.status == status
        expected = {"ok": False, "error_code": status, "description": description}
        assert await answer.json() == expected


@pytest.mark.parametrize("body", [b'{"chat_id":', b"[]", b"\xff"], ids=["broken", "list", "bytes"])
async def test_a_body_that_is_no_object_is_refused(world: World, body: bytes) -> None:
    """JSON that cannot be read is a bad request."""
    url = f"{world.url}/bot{MAIN.bot_token}/sendMessage"
    headers = {"Content-Type": "application/json"}
    async with world.session.post(url, data=body, headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["description"].startswith("Bad Request: ")


async def test_each_token_is_another_bot(world: World) -> None:
    """The method getMe says whose token it is."""
    for account, name in ((MAIN, "main_bot"), (SECOND, "second_bot")):
        _, answer = await world.call("getme", token=account.bot_token)
        bot = answer["result"]
        assert (bot["id"], bot["username"]) == (account.bot_id, name)
        assert bot["is_bot"] is True


async def test_typing_is_shown(world: World) -> None:
    """Known actions are taken, others not; neither is a message."""
    ok = {"ok": True, "result": True}
    assert await world.call("sendChatAction", {"chat_id": CHAT, "action": "typing"}) == (200, ok)
    status, answer = await world.call("sendChatAction", {"chat_id": CHAT, "action": "yawning"})
    assert (status, answer["description"]) == (
        400,
        "Bad Request: wrong parameter action in request",
    )
    assert await world.receipts() == []


async def test_numbers_are_a_chats_own_and_survive_a_restart(tmp_path: Path) -> None:
    """A chat's messages of both sides are numbered upwards, and go on after a restart."""
    numbers: list[int] = []
    for _ in range(2):
        async with simulator(tmp_path) as world:
            for _ in range(3):
                numbers.append(int((await world.write("oi")).partition(":")[2]))
                numbers.append((await world.send())[1]["result"]["message_id"])
    assert numbers == sorted(set(numbers))
    assert numbers[-1] < 2**53
    lines = (tmp_path / "receipts.jsonl").read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4, 5, 6]


async def test_the_real_quotas(tmp_path: Path) -> None:
    """A short burst to one chat passes; then it waits for exactly what is said, others do not."""
    async with simulator(tmp_path, quota_profile="real") as world:
        for _ in range(3):
            assert (await world.send())[0] == 200
        status, answer = await world.send()
        assert (status, answer["description"]) == (429, "Too Many Requests: retry after 1")
        assert answer["parameters"] == {"retry_after": 1}
        assert (await world.send(chat_id=CHAT + 1))[0] == 200
        statuses = [(await world.send(chat_id=CHAT + n))[0] for n in range(2, 60)]
        assert 429 in statuses
