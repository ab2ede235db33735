"""Where the simulated Bot API sends updates, in which order, and how often."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.connectors.telegram import simulator_deliveries
from services.connectors.telegram.tests.simulated import (
    CHAT,
    MAIN,
    OTHER_CHAT,
    SECOND,
    World,
    simulator,
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh simulator whose webhooks the job has set."""
    async with simulator(tmp_path) as made:
        yield made


@pytest.fixture
async def unset(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh simulator that nobody told where updates go."""
    async with simulator(tmp_path, webhook_url="") as made:
        yield made


async def test_a_customer_writes(world: World) -> None:
    """One update comes to the account's address with its secret: who, where, what, to what."""
    _, sent = await world.send()
    original = sent["result"]["message_id"]
    name = await world.write("oi 🙂", name="Mariá", reply_to=f"{CHAT}:{original}")
    await world.until(lambda: bool(world.webhooks))
    (came,) = world.webhooks
    assert (came.account, came.secret) == ("main", MAIN.secret_token)
    assert came.update.keys() == {"update_id", "message"}
    message = came.update["message"]
    assert name == f"{CHAT}:{message['message_id']}"
    assert message["chat"] == {"id": CHAT, "first_name": "Mariá", "type": "private"}
    assert (message["from"]["id"], message["from"]["is_bot"]) == (CHAT, False)
    assert message["text"] == "oi 🙂"
    assert message["reply_to_message"]["message_id"] == original


async def test_each_account_has_its_own_secret(world: World) -> None:
    """What is written to another bot comes to its address with its secret."""
    await world.write("oi", account="second")
    await world.until(lambda: bool(world.webhooks))
    assert (world.webhooks[0].account, world.webhooks[0].secret) == ("second", SECOND.secret_token)


async def test_a_group_has_a_title_and_members(world: World) -> None:
    """Negative numbers are groups; those who write there are somebody else."""
    await world.write("oi", chat=-1001234567890, name="Ana")
    await world.until(lambda: bool(world.webhooks))
    message = world.webhooks[0].update["message"]
    assert message["chat"]["type"] == "supergroup"
    assert message["from"]["first_name"] == "Ana"


async def test_a_chats_updates_come_one_after_the_other(world: World) -> None:
    """What is not taken is repeated unchanged, and the chat's next one comes only after it."""
    world.answers = [(500, {})] * 3
    for text in ("1", "2", "3"):
        await world.write(text)
    await world.until(lambda: len(world.webhooks) == 6)
    assert [came.text for came in world.webhooks] == ["1", "1", "1", "1", "2", "3"]
    assert len({came.raw for came in world.webhooks}) == 3
    ids = [came.update["update_id"] for came in world.webhooks]
    assert ids == sorted(ids)


async def test_other_chats_overtake_and_a_stop_sends_what_waits(tmp_path: Path) -> None:
    """One chat's head waits with all behind it, not other chats; nothing waits for a stop."""
    async with simulator(tmp_path) as world:
        world.answers = [(503, {"Retry-After": "60"})]
        await world.write("1")
        await world.until(lambda: len(world.webhooks) == 1)
        await world.write("2")
        await world.write("other", chat=OTHER_CHAT)
        await world.until(lambda: len(world.webhooks) == 2)
    assert [came.text for came in world.webhooks] == ["1", "other", "1", "2"]


async def test_any_2xx_takes_an_update(world: World) -> None:
    """An answer of 204 is as good as 200."""
    world.answers = [(204, {}), (302, {"Location": "/"})]
    await world.write("1")
    await world.write("2")
    await world.until(lambda: len(world.webhooks) == 3)
    assert [came.text for came in world.webhooks] == ["1", "2", "2"]


async def test_retry_after_is_honoured(world: World) -> None:
    """Who asks for a time gets it, instead of a repetition at once."""
    world.answers = [(503, {"Retry-After": "1"})]
    await world.write("1")
    await world.until(lambda: len(world.webhooks) == 2)
    first, again = world.webhooks
    assert 1.0 <= again.at - first.at < 2.0
    assert first.raw == again.raw


async def test_what_is_too_old_is_dropped(tmp_path: Path) -> None:
    """Behind the horizon an update is given up, and its chat goes on."""
    async with simulator(tmp_path, webhook_horizon_s=0.1) as world:
        world.answers = [(500, {})] * 100
        await world.write("1")
        async with asyncio.timeout(5):
            while (await world.control("GET", "state"))["webhooks"]["updates_dropped"] == 0:
                await asyncio.sleep(0.01)
        world.answers.clear()
        await world.write("2")
        await world.until(lambda: world.webhooks[-1].text == "2")


SET = {"ok": True, "result": True, "description": "Webhook was set"}


async def test_a_webhook_is_set_by_its_owner(unset: World) -> None:
    """What waited comes as soon as an address is set, with the secret that was given."""
    await unset.write("before")
    waiting = {"url": "", "has_custom_certificate": False, "pending_update_count": 1}
    async with asyncio.timeout(5):
        while (await unset.call("getWebhookInfo"))[1]["result"] != waiting:
            await asyncio.sleep(0.01)
    url = f"{unset.hook}/owned"
    asked = {"url": url, "secret_token": "given", "allowed_updates": ["message"]}
    assert await unset.call("setWebhook", asked) == (200, SET)
    await unset.until(lambda: bool(unset.webhooks))
    assert (unset.webhooks[0].account, unset.webhooks[0].secret) == ("owned", "given")
    _, info = await unset.call("getWebhookInfo")
    assert (info["result"]["url"], info["result"]["allowed_updates"]) == (url, ["message"])
    assert info["result"]["max_connections"] == 40
    assert (await unset.control("POST", "verify", {"account": "main"}))["verified"]


async def test_setting_again_takes_some_time(unset: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second call comes too soon; later it says that nothing changed."""
    monkeypatch.setattr(simulator_deliveries, "SET_INTERVAL_S", 0.1)
    asked = {"url": f"{unset.hook}/owned"}
    assert (await unset.call("setWebhook", asked))[0] == 200
    status, answer = await unset.call("setWebhook", asked)
    assert (status, answer["parameters"]) == (429, {"retry_after": 1})
    async with asyncio.timeout(3):
        while status == 429:
            await asyncio.sleep(0.02)
            status, answer = await unset.call("setWebhook", asked)
    assert answer["description"] == "Webhook is already set"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "scheme": ({"url": "ftp://x/y"}, "invalid webhook URL specified"),
    "secret": (
        {"url": "https://x/", "secret_token": "a b"},
        "secret token contains unallowed characters",
    ),
    "long secret": ({"url": "https://x/", "secret_token": "x" * 257}, "secret token is too long"),
}


@pytest.mark.parametrize(("asked", "description"), WRONG.values(), ids=WRONG)
async def test_a_wrong_webhook_is_refused(
    unset: World, asked: dict[str, Any], description: str
) -> None:
    """Address and secret have a form."""
    status, answer = await unset.call("setWebhook", asked)
    assert (status, answer["description"]) == (400, f"Bad Request: {description}")


async def test_updates_can_be_polled_without_a_webhook(world: World) -> None:
    """With a webhook polling is a conflict; without one updates wait until they are confirmed."""
    status, answer = await world.call("getUpdates")
    assert status == 409
    assert answer["description"] == (
        "Conflict: can't use getUpdates method while webhook is active; "
        "use deleteWebhook to delete the webhook first"
    )
    _, answer = await world.call("deleteWebhook")
    assert (answer["result"], answer["description"]) == (True, "Webhook was deleted")
    _, answer = await world.call("deleteWebhook")
    assert answer["description"] == "Webhook is already deleted"
    for text in ("1", "2"):
        await world.write(text)
    updates: list[Any] = []
    async with asyncio.timeout(5):
        while len(updates) < 2:
            _, answer = await world.call("getUpdates")
            updates = answer["result"]
    assert [update["message"]["text"] for update in updates] == ["1", "2"]
    _, answer = await world.call("getUpdates", {"offset": updates[0]["update_id"] + 1})
    assert [update["message"]["text"] for update in answer["result"]] == ["2"]
    await world.call("deleteWebhook", {"drop_pending_updates": True})
    assert (await world.call("getUpdates"))[1]["result"] == []
    assert world.webhooks == []


async def test_only_the_kinds_that_were_asked_for_come(unset: World) -> None:
    """Who asks for other kinds of updates hears of no messages."""
    asked = {"url": f"{unset.hook}/owned", "allowed_updates": ["callback_query"]}
    await unset.call("setWebhook", asked)
    await unset.write("unheard")
    await unset.write("heard", account="second")
    set_second = {"url": f"{unset.hook}/second"}
    await unset.call("setWebhook", set_second, token=SECOND.bot_token)
    await unset.until(lambda: bool(unset.webhooks))
    assert [came.text for came in unset.webhooks] == ["heard"]
    assert (await unset.control("GET", "state"))["webhooks"]["updates_pending"] == 0


async def test_a_refused_update_is_told(world: World) -> None:
    """The owner can ask what was wrong with the last webhook."""
    world.answers = [(401, {})]
    await world.write("1")
    await world.until(lambda: len(world.webhooks) == 2)
    _, info = await world.call("getWebhookInfo")
    message = info["result"]["last_error_message"]
    assert message == "Wrong response from the webhook: 401 Unauthorized"
    assert info["result"]["last_error_date"] > 0


async def test_a_raw_webhook_keeps_its_bytes(world: World) -> None:
    """A webhook of the test's own goes out as it stands and the answer is reported."""
    body = {"body": {"update_id": 1}, "account": "main"}
    assert (await world.control("POST", "webhooks", body))["status"] == 200
    assert world.webhooks[0].update == {"update_id": 1}
    assert world.webhooks[0].secret == MAIN.secret_token
