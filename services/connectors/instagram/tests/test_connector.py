"""The Instagram connector against a provider with one answer and every documented error code."""

import hmac
import subprocess
import sys
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

from services.connectors.base import Accepted, Delivery, SendError, Verdict
from services.connectors.instagram.config import Account, Config, random_account
from services.connectors.instagram.connector import Instagram
from services.connectors.instagram.errors import VERDICTS, send_error
from services.connectors.instagram.simulator_nodes import Account as SimulatedAccount
from services.connectors.instagram.tests.recorded import message, webhook
from services.connectors.tests.doubles import TOLD, OneAnswer
from services.contracts.status import Status
from services.runtime.config import InvalidConfig, load

ACCOUNT = random_account()
DELIVERY = Delivery(
    account="main", address="1234567890123456", content="Olá 👋", reference="not sent"
)


def config(accounts: dict[str, Account], **options: Any) -> Config:
    """Return a configuration."""
    return Config(
        **TOLD,
        accounts=accounts,
        **options,
    )


def connector(
    status: int = 200, body: object = None, **options: Any
) -> tuple[Instagram, OneAnswer]:
    """Return a connector with one account, before a provider with one answer."""
    http = OneAnswer(status, body)
    return Instagram(config({"main": ACCOUNT}, **options), http), http


async def refusal(status: int, body: object) -> SendError:
    """Return what a send becomes that is answered so."""
    channel, _ = connector(status, body)
    outcome = await channel.send(DELIVERY)
    assert isinstance(outcome, SendError)
    return outcome


def test_the_channel_says_what_it_can() -> None:
    """There is no receipt of delivery, and an address belongs to one account."""
    assert (Instagram.name, Instagram.account_scoped) == ("INSTAGRAM", True)
    assert Instagram.capabilities.receipts == (Status.SENT, Status.READ)


@pytest.mark.parametrize(
    ("text", "fits"),
    [("x" * 1000, True), ("x" * 1001, False), ("é" * 500, True), ("👋" * 251, False), ("", True)],
)
def test_a_text_is_measured_in_bytes(text: str, *, fits: bool) -> None:
    """A thousand bytes of UTF-8 fit."""
    assert connector()[0].fits(text) == fits


LOGINS = {
    "instagram": ("https://graph.instagram.com", ACCOUNT.ig_id),
    "facebook": ("https://graph.facebook.com", ACCOUNT.page_id),
}


@pytest.mark.parametrize("login", LOGINS)
async def test_a_text_is_sent_as_documented(login: str) -> None:
    """The request has the documented shape, the login's object and host, and the token."""
    url, node = LOGINS[login]
    channel, http = connector(200, {"recipient_id": "1", "message_id": "aWdf.1"}, login=login)
    assert channel._config.provider_url == url
    assert await channel.send(DELIVERY) == Accepted("aWdf.1")
    ((method, path, headers, body),) = http.asked
    assert (method, path) == ("POST", f"/v23.0/{node}/messages")
    assert headers["Authorization"] == f"Bearer {ACCOUNT.access_token}"
    assert msgspec.json.decode(body or b"") == {
        "recipient": {"id": "1234567890123456"},
        "message": {"text": "Olá 👋"},
    }


@pytest.mark.parametrize(
    ("target", "reply"),
    [("aWdf.before", {"reply_to": {"mid": "aWdf.before"}}), ("sha256:00ff", {})],
)
async def test_a_reply_names_what_it_replies_to(target: str, reply: dict[str, Any]) -> None:
    """The message carries the provider's name of the other, if the provider gave it one."""
    channel, http = connector(200, {"message_id": "aWdf.1"})
    await channel.send(msgspec.structs.replace(DELIVERY, reply_to_provider_id=target))
    body = msgspec.json.decode(http.asked[0][3] or b"")
    assert body["message"] == {"text": "Olá 👋"} | reply


DOCUMENTED = {
    "outside the window": (10, 2534022, Verdict.FINAL),
    "restricted": (10, 1893063, Verdict.FINAL),
    "permission": (10, None, Verdict.ACCOUNT),
    "about this message": (10, 2018327, Verdict.FINAL),
    "token": (190, None, Verdict.ACCOUNT),
    "token expired": (190, 463, Verdict.ACCOUNT),
    "calls": (613, 2534040, Verdict.THROTTLED),
    "calls, bare": (613, None, Verdict.THROTTLED),
    "app's calls": (4, None, Verdict.THROTTLED),
    "user's calls": (17, None, Verdict.THROTTLED),
    "unknown": (1, None, Verdict.AMBIGUOUS),
    "reported although sent": (1, 1357046, Verdict.AMBIGUOUS),
    "service": (2, None, Verdict.RETRYABLE),
    "parameter": (100, None, Verdict.FINAL),
    "no such user": (100, 2534014, Verdict.FINAL),
    "blocked": (100, 2534029, Verdict.FINAL),
    "permission missing": (200, None, Verdict.ACCOUNT),
    "access revoked": (200, 2534041, Verdict.ACCOUNT),
    "not available": (551, None, Verdict.FINAL),
    "image": (36000, 2207004, Verdict.FINAL),
}


@pytest.mark.parametrize(("code", "subcode", "verdict"), DOCUMENTED.values(), ids=DOCUMENTED)
async def test_the_code_decides_not_the_http_status(
    code: int, subcode: int | None, verdict: Verdict
) -> None:
    """Every documented code has one verdict, whatever HTTP status it comes with."""
    error: dict[str, object] = {"message": "why", "type": "OAuthException", "code": code}
    if subcode is not None:
        error["error_subcode"] = subcode
    for status in (400, 401, 403, 404, 429, 500, 503):
        outcome = await refusal(status, {"error": error})
        assert (outcome.verdict, outcome.detail) == (verdict, "why")
        assert outcome.code == f"provider_{code}" + (f"_{subcode}" if subcode else "")
        assert outcome.retry_after_s == (7.0 if verdict is Verdict.THROTTLED else None)


def test_every_code_stands_for_its_unknown_subcodes() -> None:
    """A code of the table decides also with a subcode that nobody documented."""
    for code in {code for code, _ in VERDICTS}:
        for status in (400, 403, 500):
            found = send_error(status, code, 9_999_999, "", {})
            assert found.verdict is VERDICTS[code, None]


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("7", 7), ("0", 4), ("-1", 4), ("soon", 4), (None, 4), ("inf", 3600), ("nan", 4)],
)
def test_a_throttle_waits_a_time_that_can_be_waited(header: str | None, wait_s: float) -> None:
    """The provider's time counts within reason; otherwise there is a usual one."""
    headers = {} if header is None else {"Retry-After": header}
    assert send_error(400, 613, None, "", headers).retry_after_s == wait_s


@pytest.mark.parametrize("code", [None, 99999])
@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, Verdict.FINAL),
        (401, Verdict.ACCOUNT),
        (404, Verdict.FINAL),
        (429, Verdict.THROTTLED),
        (500, Verdict.AMBIGUOUS),
        (502, Verdict.AMBIGUOUS),
    ],
)
async def test_an_answer_without_a_known_code_goes_by_its_status(
    status: int, verdict: Verdict, code: int | None
) -> None:
    """A proxy's error page says nothing of the message; a server error may have processed it."""
    body: object = "<html>" if code is None else {"error": {"code": code}}
    assert (await refusal(status, body)).verdict is verdict


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"message_id": None},
        {"message_id": "a\0b"},
        {"recipient_id": "1"},
        "<html>",
        {"error": {"code": 100}},
    ],
)
async def test_an_answer_that_names_no_message_is_ambiguous(body: object) -> None:
    """A 200 without a message id may have sent it."""
    assert (await refusal(200, body)).verdict is Verdict.AMBIGUOUS


CREDENTIALS: dict[str, tuple[str, int, object, Verdict | None]] = {
    "right": ("instagram", 200, {"id": "2", "user_id": ACCOUNT.ig_id, "username": "a"}, None),
    "right, as a number": ("instagram", 200, {"user_id": int(ACCOUNT.ig_id)}, None),
    "right, in a list": ("instagram", 200, {"data": [{"user_id": ACCOUNT.ig_id}]}, None),
    "the app's own id": ("instagram", 200, {"id": ACCOUNT.ig_id}, Verdict.AMBIGUOUS),
    "another account": ("instagram", 200, {"user_id": "17841499999999999"}, Verdict.ACCOUNT),
    "right page": ("facebook", 200, {"id": ACCOUNT.page_id, "name": "a"}, None),
    "another page": ("facebook", 200, {"id": ACCOUNT.ig_id}, Verdict.ACCOUNT),
    "expired": ("instagram", 400, {"error": {"code": 190}}, Verdict.ACCOUNT),
    "provider is ill": ("instagram", 500, "<html>", Verdict.AMBIGUOUS),
    "no JSON of an account": ("instagram", 200, "<html>", Verdict.AMBIGUOUS),
}


@pytest.mark.parametrize(
    ("login", "status", "body", "verdict"), CREDENTIALS.values(), ids=CREDENTIALS
)
async def test_credentials_are_good_for_this_account_only(
    login: str, status: int, body: object, verdict: Verdict | None
) -> None:
    """A token is asked whose it is; another account's is refused."""
    channel, http = connector(status, body, login=login)
    error = await channel.check_credentials("main")
    assert (error.verdict if error else None) is verdict
    ((method, path, headers, _),) = http.asked
    asked = "user_id,username" if login == "instagram" else "id,name"
    assert (method, path) == ("GET", f"/v23.0/me?fields={asked}")
    assert headers["Authorization"] == f"Bearer {ACCOUNT.access_token}"


def sign(raw: bytes, secret: str) -> CIMultiDict[str]:
    """Return the headers of a webhook with these bytes."""
    digest = hmac.new(secret.encode(), raw, sha256).hexdigest()
    return CIMultiDict({"x-hub-signature-256": f"sha256={digest}"})


def test_any_of_the_secrets_may_sign_the_raw_bytes() -> None:
    """One byte more, another secret, no header, a bare digest: each is refused."""
    channel, _ = connector()
    raw = b'{"a":"\\u00e9"}'
    for secret in ACCOUNT.app_secrets:
        signed = sign(raw, secret)
        assert channel.verify("main", raw, signed, {})
        assert not channel.verify("main", raw + b" ", signed, {})
        assert not channel.verify("main", '{"a":"é"}'.encode(), signed, {})
        bare = CIMultiDict({"X-Hub-Signature-256": signed["x-hub-signature-256"][7:]})
        assert not channel.verify("main", raw, bare, {})
    for headers in (
        sign(raw, "another"),
        CIMultiDict[str](),
        CIMultiDict({"X-Hub-Signature-256": "sha256=é"}),
    ):
        assert not channel.verify("main", raw, headers, {})


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({}, "0042"),
        ({"hub.verify_token": "wrong"}, None),
        ({"hub.verify_token": ""}, None),
        ({"hub.mode": "unsubscribe"}, None),
    ],
)
def test_the_challenge_is_opaque(change: dict[str, str], answer: str | None) -> None:
    """The challenge comes back as it came, and only for the right token and mode."""
    channel, _ = connector()
    query = {
        "hub.mode": "subscribe",
        "hub.verify_token": ACCOUNT.verify_token,
        "hub.challenge": "0042",
    }
    assert channel.challenge("main", query | change) == answer


def test_a_webhook_is_read_for_its_account() -> None:
    """The same item is this account's or another's."""
    item = message() | {"recipient": {"id": ACCOUNT.ig_id}}
    channel = Instagram(config({"main": ACCOUNT, "second": random_account()}), OneAnswer(200, None))
    raw = msgspec.json.encode(webhook(item))
    assert len(channel.parse_webhook("main", raw) or []) == 1
    assert channel.parse_webhook("second", raw) is None


def test_a_configuration_comes_from_the_environment() -> None:
    """The accounts are JSON, the login a word; an empty URL is the login's own."""
    environment = {
        "SERVICE_NAME": "connector-instagram",
        "INSTANCE_ID": "1",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": "1",
        "CONSUL_HTTP_ADDR": "127.0.0.1:1",
        "INTERNAL_TOKEN": "x" * 16,
        "CHANNEL": "instagram",
        "PROVIDER_URL": "",
        "LOGIN": "facebook",
        "ACCOUNTS": msgspec.json.encode({"main": ACCOUNT}).decode(),
    }
    loaded = load(Config, environment, {})
    assert loaded.accounts == {"main": ACCOUNT}
    assert (loaded.provider_url, loaded.node("main")) == LOGINS["facebook"]
    with pytest.raises(InvalidConfig, match="LOGIN is not valid"):
        load(Config, environment | {"LOGIN": "myspace"}, {})


def test_a_page_login_needs_pages() -> None:
    """An account without a page is named, and its secrets are not."""
    pageless = msgspec.structs.replace(ACCOUNT, page_id=None)
    config({"main": pageless})
    with pytest.raises(InvalidConfig) as caught:
        config({"main": ACCOUNT, "second": pageless}, login="facebook")
    assert caught.value.problems == ["ACCOUNTS: second has no page_id"]


def test_accounts_can_be_made_for_both_sides() -> None:
    """The command prints two accounts that connector and simulator read alike."""
    made = subprocess.run(
        [sys.executable, "-m", "services.connectors.instagram.config"],
        check=True,
        capture_output=True,
    ).stdout
    ours = msgspec.json.decode(made, type=dict[str, Account])
    theirs = msgspec.json.decode(made, type=dict[str, SimulatedAccount])
    assert list(ours) == ["main", "second"]
    assert msgspec.to_builtins(ours) == msgspec.to_builtins(theirs)
    assert ours["main"].ig_id != ours["second"].ig_id
