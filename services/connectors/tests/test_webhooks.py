"""Webhooks over a real socket: 200 says that all of it is durable, and nothing else says so."""

import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, NamedTuple, cast

import aiohttp
import msgspec
import pytest
from aiohttp.test_utils import TestServer

from services.connectors import registry
from services.connectors.instagram import config as instagram
from services.connectors.telegram import config as telegram
from services.connectors.tests import doubles
from services.connectors.tests.bench import Bench
from services.connectors.webhooks import WEBHOOK_SIZE_MAX_BYTES, Webhooks
from services.connectors.whatsapp import config as whatsapp
from services.contracts.ids import inbound_id
from services.contracts.status import Status
from services.contracts.topics import INBOUND_MESSAGES, STATUS_UPDATES
from services.runtime.health import Health
from services.runtime.http.routes import routes_of
from services.runtime.http.server import create, internal_guard

TOKEN = "internal-token-of-tests"
CUSTOMER, AT_S = "55", 1_712_345_678
WHATSAPP = whatsapp.random_account()
INSTAGRAM = instagram.random_account()
BOT, OTHER_BOT = telegram.random_account(), telegram.random_account()
Node = dict[str, Any]


class Wire(NamedTuple):
    """How a channel's provider writes a webhook and signs its bytes."""

    accounts: dict[str, Any]
    body: Callable[..., bytes]
    signed: Callable[[bytes], dict[str, str]]
    wrote: Callable[..., Node]
    """Says that a customer wrote a text; numbers name messages."""


def hub(secret: str, raw: bytes) -> dict[str, str]:
    """Return the header that proves who sent these bytes."""
    digest = hmac.new(secret.encode(), raw, sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}"}


def changes(*nodes: Node, number: str = WHATSAPP.phone_number_id) -> bytes:
    """Return a webhook with a change for each message or status."""
    values = [{"statuses" if "status" in node else "messages": [node]} for node in nodes]
    about = {"metadata": {"phone_number_id": number}}
    found = [{"field": "messages", "value": about | value} for value in values]
    return msgspec.json.encode({"object": "whatsapp", "entry": [{"changes": found}]})


def items(*nodes: Node, ours: str = INSTAGRAM.ig_id) -> bytes:
    """Return a webhook with an item for each; what went out comes from us, the rest to us."""
    found = [
        {"sender": {"id": ours}, "recipient": {"id": CUSTOMER}, **node}
        if node.get("message", {}).get("is_echo")
        else {"sender": {"id": CUSTOMER}, "recipient": {"id": ours}, **node}
        for node in nodes
    ]
    return msgspec.json.encode({"object": "instagram", "entry": [{"messaging": found}]})


def whatsapp_wrote(number: int, text: str) -> Node:
    """Return a message."""
    words = {"type": "text", "text": {"body": text}}
    return {"id": str(number), "from": CUSTOMER, "timestamp": str(AT_S), **words}


def telegram_wrote(number: int, text: str) -> Node:
    """Return the update of a message."""
    chat = {"id": int(CUSTOMER), "type": "private"}
    message = {"message_id": number, "chat": chat, "date": AT_S, "text": text}
    return {"update_id": number, "message": message}


WIRES = {
    "instagram": Wire(
        {"main": INSTAGRAM},
        items,
        lambda raw: hub(INSTAGRAM.app_secrets[-1], raw),
        lambda number, text: {"message": {"mid": str(number), "text": text}},
    ),
    "telegram": Wire(
        {"main": BOT, "second": OTHER_BOT},
        msgspec.json.encode,
        lambda _raw: {"X-Telegram-Bot-Api-Secret-Token": BOT.secret_token},
        telegram_wrote,
    ),
    "whatsapp": Wire(
        {"main": WHATSAPP}, changes, lambda raw: hub(WHATSAPP.app_secret, raw), whatsapp_wrote
    ),
}
channels = pytest.mark.parametrize("channel", sorted(WIRES))
hubs = pytest.mark.parametrize("channel", ["instagram", "whatsapp"])
"""Those whose provider signs bytes and verifies an address."""


@pytest.fixture(params=["doubles", pytest.param("postgres", marks=pytest.mark.connected)])
def placed(request: pytest.FixtureRequest) -> Bench | doubles.Bench:
    """Doubles, and what they stand in for."""
    if request.param == "doubles":
        return doubles.Bench()
    bench: Bench = request.getfixturevalue("bench")
    return bench


class Site:
    """A connector's webhooks on a port of their own, and what they led to."""

    def __init__(self, channel: str, session: aiohttp.ClientSession) -> None:
        self.wire, self.session = WIRES[channel], session
        self.topics, self.reporter = doubles.Topics(), doubles.Reporter()
        told = {
            "service_name": f"connector-{channel}",
            "instance_id": "test",
            "http_host": "127.0.0.1",
            "http_port": 1,
            "consul_http_addr": "127.0.0.1:1",
            "internal_token": TOKEN,
            "channel": channel,
            "accounts": msgspec.to_builtins(self.wire.accounts),
        }
        loaded = registry.load(channel)
        config = msgspec.convert(told, loaded.config)
        self.connector = loaded.create(config, cast("Any", None))
        self.url = ""

    async def post(
        self, raw: bytes, signed: dict[str, str] | None = None, account: str = "main"
    ) -> tuple[int, str | None, aiohttp.ClientResponse]:
        """Post a webhook, well signed unless said otherwise; return status, code and answer."""
        headers = {"Content-Type": "application/json"}
        headers |= self.wire.signed(raw) if signed is None else signed
        url = f"{self.url}/webhooks/{account}"
        async with self.session.post(url, data=raw, headers=headers) as answer:
            body = await answer.read()
        return answer.status, msgspec.json.decode(body)["code"] if body else None, answer

    def names(self) -> list[str]:
        """Return the provider's names of the messages on Kafka, a chat's number apart."""
        found = self.topics.on(INBOUND_MESSAGES)
        return [one.provider_message_id.rpartition(":")[2] for one in found]


@asynccontextmanager
async def served(channel: str, placed: Bench | doubles.Bench | None = None) -> AsyncIterator[Site]:
    """Serve a channel's webhooks as a connector does."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=bearer) as session:
        site, placed = Site(channel, session), placed or doubles.Bench()
        app = create("connector", Health(), lambda: internal_guard(TOKEN))
        hooks = Webhooks(
            site.connector,
            cast("Any", placed.evidence),
            cast("Any", placed.echoes),
            cast("Any", site.reporter),
            cast("Any", site.topics),
        )
        app.router.add_routes(routes_of(hooks))
        async with TestServer(app) as server:
            site.url = str(server.make_url("")).rstrip("/")
            yield site


@channels
async def test_what_a_customer_wrote_is_on_kafka(channel: str) -> None:
    """Under a key of its sender, so that their messages stay in order."""
    async with served(channel) as site:
        status, code, _ = await site.post(site.wire.body(site.wire.wrote(1, "Olá 👋")))
        assert (status, code) == (200, None)
        (outgoing,) = site.topics.published
        record = cast("Any", outgoing.record)
        assert (outgoing.topic, outgoing.key) == (
            INBOUND_MESSAGES,
            f"{site.connector.name}:main:{CUSTOMER}",
        )
        assert (record.channel, record.account) == (site.connector.name, "main")
        assert (record.address, record.content, record.raw) == (CUSTOMER, "Olá 👋", None)
        assert record.account_scoped is site.connector.account_scoped


@hubs
@pytest.mark.parametrize("takes", [0, 2])
async def test_what_is_not_on_kafka_is_not_acknowledged(channel: str, takes: int) -> None:
    """Kafka away, before or amid a webhook: come again; the repetition brings all, once."""
    async with served(channel) as site:
        raw = site.wire.body(*(site.wire.wrote(number, "oi") for number in (1, 2, 3)))
        site.topics.takes = takes
        status, code, answer = await site.post(raw)
        assert (status, code, answer.headers["Retry-After"]) == (503, "unavailable", "1")
        site.topics.takes = None
        for _ in range(2):
            assert (await site.post(raw))[0] == 200
        assert site.names() == ["1", "2", "3"][:takes] + 2 * ["1", "2", "3"]


@channels
async def test_what_is_not_in_the_ledger_is_not_acknowledged(channel: str) -> None:
    """Nothing goes to Kafka under a name that the ledger does not know yet."""
    placed = doubles.Bench()
    async with served(channel, placed) as site:
        placed.evidence.away = True
        raw = site.wire.body(site.wire.wrote(1, "oi"))
        status, code, answer = await site.post(raw)
        assert (status, code, answer.headers["Retry-After"]) == (503, "unavailable", "1")
        assert site.topics.published == []
        placed.evidence.away = False
        assert (await site.post(raw))[0] == 200
        assert site.names() == ["1"]


FORGED = {
    "instagram": [hub("another-secret", b"{"), hub(INSTAGRAM.app_secrets[0], b"{}")],
    "telegram": [{"X-Telegram-Bot-Api-Secret-Token": OTHER_BOT.secret_token}],
    "whatsapp": [hub("another-secret", b"{"), hub(WHATSAPP.app_secret, b"{}")],
}


@channels
async def test_a_bad_signature_is_refused_before_anything_is_read(channel: str) -> None:
    """Missing, of another secret or of other bytes: whether the body is JSON is not looked at."""
    placed = doubles.Bench()
    async with served(channel, placed) as site:
        for headers in ({}, *FORGED[channel]):
            status, code, _ = await site.post(b"{", headers)
            assert (status, code) == (401, "invalid_signature")
        raw = site.wire.body(site.wire.wrote(1, "oi"))
        status, code, _ = await site.post(raw, {})
        assert (status, code) == (401, "invalid_signature")
        assert site.topics.published == []
        assert placed.evidence.inbound == {}


@channels
@pytest.mark.parametrize("raw", [b"", b"{", b"oi"])
async def test_a_signed_body_that_is_no_json_is_refused(channel: str, raw: bytes) -> None:
    """There is nothing in it that could be kept."""
    async with served(channel) as site:
        status, code, _ = await site.post(raw)
        assert (status, code) == (400, "invalid_json")
        assert site.topics.published == []


@channels
@pytest.mark.parametrize("raw", [b"[]", b"7", b'"oi"', b"null", b'{"hello":["world"]}'])
async def test_json_that_makes_no_sense_is_kept(channel: str, raw: bytes) -> None:
    """It was signed, so it is acknowledged, and kept under one name however often it comes."""
    async with served(channel) as site:
        for _ in range(2):
            assert (await site.post(raw))[0] == 200
        first, second = site.topics.on(INBOUND_MESSAGES)
        assert (first.content, first.address) == (None, "unknown")
        assert msgspec.json.decode(first.raw) == msgspec.json.decode(raw)
        assert first.provider_message_id == second.provider_message_id


async def test_a_webhook_of_another_account_is_refused_whole() -> None:
    """Signed with our secret, as an application of several accounts does; half ours or not."""
    theirs, ours = changes(whatsapp_wrote(1, "oi"), number="1"), changes(whatsapp_wrote(2, "oi"))
    both = {"object": "whatsapp", "entry": []}
    for one in (ours, theirs):
        both["entry"] += msgspec.json.decode(one)["entry"]
    async with served("whatsapp") as site:
        for raw in (theirs, msgspec.json.encode(both)):
            assert (await site.post(raw))[:2] == (404, "unknown_account")
        assert site.topics.published == []
    async with served("instagram") as site:
        raw = items({"message": {"mid": "1", "text": "oi"}}, ours="1")
        assert (await site.post(raw))[:2] == (404, "unknown_account")
        assert site.topics.published == []


@channels
async def test_there_is_no_webhook_of_an_account_that_is_not_there(channel: str) -> None:
    """Neither to post to nor to verify, whatever the signature."""
    async with served(channel) as site:
        for account in ("nobody", "Main", "x" * 64):
            raw = site.wire.body(site.wire.wrote(1, "oi"))
            assert (await site.post(raw, account=account))[:2] == (404, "unknown_account")
            async with site.session.get(f"{site.url}/webhooks/{account}") as answer:
                assert answer.status == 404


@hubs
async def test_a_thousand_updates_come_in_one_webhook(channel: str) -> None:
    """All of them, in their order."""
    async with served(channel) as site:
        raw = site.wire.body(*(site.wire.wrote(number, "oi" * 200) for number in range(1000)))
        assert (await site.post(raw))[0] == 200
        assert site.names() == [str(number) for number in range(1000)]


@channels
async def test_a_body_has_a_limit(channel: str) -> None:
    """Up to it a webhook is taken; one byte more is refused before its signature is looked at."""
    async with served(channel) as site:
        raw = site.wire.body(site.wire.wrote(1, "oi")).ljust(WEBHOOK_SIZE_MAX_BYTES)
        assert (await site.post(raw))[0] == 200
        assert (await site.post(raw + b" ", {}))[:2] == (413, "body_too_large")
        assert site.names() == ["1"]


async def verification(site: Site, account: str = "main", **query: str) -> tuple[int, str, str]:
    """Ask as a provider that verifies an address; return status, type and body."""
    asked = {f"hub.{name}": value for name, value in query.items()}
    url = f"{site.url}/webhooks/{account}"
    async with site.session.get(url, params=asked) as answer:
        return answer.status, answer.content_type, await answer.text()


@hubs
async def test_an_address_is_verified(channel: str) -> None:
    """With the account's own token the challenge comes back as it is, and as nothing but text."""
    async with served(channel) as site:
        token = site.wire.accounts["main"].verify_token
        good = {"mode": "subscribe", "verify_token": token, "challenge": "<b>1158201444</b>"}
        assert await verification(site, **good) == (200, "text/plain", "<b>1158201444</b>")
        wrong = {"verify_token": "another"}, {"verify_token": ""}, {"mode": "unsubscribe"}
        for change in wrong:
            status, _, body = await verification(site, **(good | change))
            assert (status, msgspec.json.decode(body)["code"]) == (403, "verification_refused")
        assert (await verification(site))[0] == 403


async def test_an_address_that_no_provider_verifies_is_not_verified() -> None:
    """Whatever is asked for."""
    async with served("telegram") as site:
        token = BOT.secret_token
        query = {"mode": "subscribe", "verify_token": token, "challenge": "1"}
        assert (await verification(site, **query))[0] == 403


async def test_nobody_passes_by_the_gateway() -> None:
    """A good signature is no key to this process."""
    async with served("whatsapp") as site:
        raw = changes(whatsapp_wrote(1, "oi"))
        passing = {**hub(WHATSAPP.app_secret, raw), "Authorization": "Bearer x"}
        assert (await site.post(raw, passing))[:2] == (401, "missing_api_key")
        assert site.topics.published == []


async def test_statuses_are_told_of_what_is_known(placed: Bench | doubles.Bench) -> None:
    """Those of other messages are kept without a word, and are no reason to refuse the rest."""
    row, _ = await placed.sent(name="ours")
    read = {"status": "read", "timestamp": str(AT_S)}
    async with served("whatsapp", placed) as site:
        raw = changes({"id": "theirs", **read}, {"id": "ours", **read})
        assert (await site.post(raw))[0] == 200
        (outgoing,) = site.topics.published
        told = cast("Any", outgoing.record)
        assert (outgoing.topic, outgoing.key) == (STATUS_UPDATES, str(row.conversation_id))
        assert (told.message_id, told.status) == (row.message_id, Status.READ)


async def test_replies_name_what_they_reply_to(placed: Bench | doubles.Bench) -> None:
    """One of ours, one of their own in the same webhook, and none that is not known."""
    row, _ = await placed.sent(name="ours")
    nodes = [
        whatsapp_wrote(number, "oi") | {"context": {"id": about}}
        for number, about in enumerate(("ours", "0", "never"))
    ]
    async with served("whatsapp", placed) as site:
        assert (await site.post(changes(*nodes)))[0] == 200
        first = inbound_id(placed.channel, "main", "0")
        replied = [one.reply_to for one in site.topics.on(INBOUND_MESSAGES)]
        assert replied == [row.message_id, first, None]


async def test_echoes_come_before_the_statuses_that_they_explain(
    placed: Bench | doubles.Bench,
) -> None:
    """In whichever order a webhook has them, the echo tells whose the reading is."""
    row, _ = await placed.lost()
    nodes = (
        {"read": {"mid": "e1"}},
        {"message": {"mid": "m1", "text": "lido"}},
        {"message": {"mid": "e1", "text": row.content, "is_echo": True}},
    )
    async with served("instagram", placed) as site:
        assert (await site.post(items(*nodes)))[0] == 200
        (settled,) = site.reporter.handed
        assert settled.report is not None
        assert (settled.report.message_id, settled.report.status) == (row.message_id, Status.SENT)
        assert [one.topic for one in site.topics.published] == [STATUS_UPDATES, INBOUND_MESSAGES]
        (told,) = site.topics.on(STATUS_UPDATES)
        assert (told.message_id, told.status) == (row.message_id, Status.READ)
        assert site.names() == ["m1"]
