"""The Telegram connector against recorded payloads and the table of errors."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

from services.connectors.base import (
    Accepted,
    Answer,
    Delivery,
    SendError,
    Verdict,
)
from services.connectors.telegram.config import Config, random_account
from services.connectors.telegram.connector import SECRET_HEADER, Telegram
from services.connectors.tests.doubles import TOLD
from services.contracts.status import Status

ACCOUNT = random_account()
DELIVERY = Delivery(
    account="main",
    address="5511999990000",
    content="Olá 👋",
    reference="ours",
    reply_to_provider_id="5511999990000:41",
)
SENT = {"ok": True, "result": {"message_id": 42, "chat": {"id": 5511999990000}, "date": 1}}


class Answers:
    """Answers what the test wants, the last answer for ever, and keeps what it was asked."""

    def __init__(self, *answers: tuple[int, object]) -> None:
        self.answers = [_answer(status, body) for status, body in answers]
        self.asked: list[tuple[str, str, Any]] = []

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """Answer the next."""
        assert (body is None) == ("Content-Type" not in headers)
        self.asked.append((method, path, msgspec.json.decode(body) if body else None))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def methods(self) -> list[str]:
        """Return the methods that were called."""
        return [path.rpartition("/")[2] for _, path, _ in self.asked]


def _answer(status: int, body: object) -> Answer:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Answer(status, CIMultiDict({"Retry-After": "9"}), raw)


def failed(code: int, description: str, **parameters: int) -> tuple[int, object]:
    """Return an answer that tells an error."""
    body = {"ok": False, "error_code": code, "description": description, "parameters": parameters}
    return code, body


def connector(
    *answers: tuple[int, object], webhook_url: str | None = None
) -> tuple[Telegram, Answers]:
    """Return a connector with one account, before a provider with these answers."""
    http = Answers(*(answers or ((200, SENT),)))
    config = Config(
        **TOLD,
        accounts={"main": ACCOUNT},
        webhook_url=webhook_url,
    )
    return Telegram(config, http), http


async def test_a_text_is_sent_as_documented() -> None:
    """The request has the documented shape and the reply; the answer names chat and number."""
    channel, http = connector()
    assert await channel.send(DELIVERY) == Accepted("5511999990000:42")
    assert http.asked == [
        (
            "POST",
            f"/bot{ACCOUNT.bot_token}/sendMessage",
            {
                "chat_id": "5511999990000",
                "text": "Olá 👋",
                "reply_parameters": {"message_id": 41, "allow_sending_without_reply": True},
            },
        )
    ]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param("5511999990000:41:7", 41, id="an edit of a message"),
        pytest.param(None, None, id="nothing"),
        pytest.param("777:41", None, id="another chat's message"),
        pytest.param("sha256:abc", None, id="what could not be read"),
    ],
)
async def test_a_reply_names_a_message_of_the_chat(name: str | None, number: int | None) -> None:
    """What happened to a message stands for it; what is not in the chat is not named."""
    channel, http = connector()
    await channel.send(msgspec.structs.replace(DELIVERY, reply_to_provider_id=name))
    reply = http.asked[0][2].get("reply_parameters")
    assert (reply and reply["message_id"]) == number


ERRORS = [
    (401, "Unauthorized", Verdict.ACCOUNT, "unauthorized"),
    (401, "Unauthorized: invalid token specified", Verdict.ACCOUNT, "unauthorized"),
    (404, "Not Found", Verdict.ACCOUNT, "not_found"),
    (404, "Not Found: method not found", Verdict.ACCOUNT, "not_found"),
    (409, "Conflict: terminated by other getUpdates request", Verdict.ACCOUNT, "conflict"),
    (421, "Misdirected Request: unallowed token", Verdict.ACCOUNT, "misdirected_request"),
    (400, "Bad Request: chat not found", Verdict.FINAL, "chat_not_found"),
    (400, "Bad Request: PEER_ID_INVALID", Verdict.FINAL, "chat_not_found"),
    (400, "Bad Request: message is too long", Verdict.FINAL, "message_too_long"),
    (400, "Bad Request: message text is empty", Verdict.FINAL, "bad_request"),
    (400, "Bad Request: failed to get HTTP URL content", Verdict.FINAL, "bad_request"),
    (403, "Forbidden: bot was blocked by the user", Verdict.FINAL, "bot_blocked"),
    (403, "Forbidden: user is deactivated", Verdict.FINAL, "user_deactivated"),
    (403, "Forbidden: bot was kicked from the supergroup chat", Verdict.FINAL, "bot_kicked"),
    (403, "Forbidden: bot is not a member of the channel chat", Verdict.FINAL, "bot_not_a_member"),
    (
        403,
        "Forbidden: bot can't initiate conversation with a user",
        Verdict.FINAL,
        "bot_not_started",
    ),
    (403, "Forbidden: something new", Verdict.FINAL, "forbidden"),
    (500, "Internal Server Error: restart", Verdict.AMBIGUOUS, "internal_server_error"),
    (418, "Teapot", Verdict.FINAL, "http_418"),
    (599, "Nobody knows", Verdict.AMBIGUOUS, "http_599"),
]


@pytest.mark.parametrize(
    ("code", "description", "verdict", "name"), ERRORS, ids=[line[1] for line in ERRORS]
)
async def test_the_description_decides(
    code: int, description: str, verdict: Verdict, name: str
) -> None:
    """Prefix and keyword give the verdict and a stable code; unknown ones go by their number."""
    channel, _ = connector(failed(code, description))
    assert await channel.send(DELIVERY) == SendError(
        verdict=verdict, code=f"provider_{name}", detail=description
    )


@pytest.mark.parametrize(
    ("answer", "wait_s"),
    [
        pytest.param(
            failed(429, "Too Many Requests: retry after 35", retry_after=35), 35.0, id="parameters"
        ),
        pytest.param(failed(429, "Too Many Requests"), 1.0, id="neither"),
        pytest.param((429, b"<html>"), 9.0, id="a page and a header"),
    ],
)
async def test_a_throttle_waits_what_it_says(answer: tuple[int, object], wait_s: float) -> None:
    """Exactly the provider's time, no attempt lost."""
    channel, _ = connector(answer)
    outcome = await channel.send(DELIVERY)
    assert isinstance(outcome, SendError)
    assert (outcome.verdict, outcome.retry_after_s) == (Verdict.THROTTLED, wait_s)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((200, b"<html>"), id="page"),
        pytest.param((200, b""), id="nothing"),
        pytest.param((200, {"ok": True}), id="no result"),
        pytest.param((200, {"ok": True, "result": True}), id="no message"),
        pytest.param((200, {"ok": True, "result": {"message_id": 1}}), id="no chat"),
        pytest.param((502, b"<html>"), id="bad gateway"),
        pytest.param((404, b"\xff"), id="bytes"),
        pytest.param((500, {"ok": False, "error_code": "x"}), id="no number"),
    ],
)
async def test_an_answer_that_cannot_be_read_is_ambiguous(answer: tuple[int, object]) -> None:
    """Without an envelope, or a message in it, it may have been sent."""
    channel, _ = connector(answer)
    outcome = await channel.send(DELIVERY)
    assert isinstance(outcome, SendError)
    assert outcome.verdict is Verdict.AMBIGUOUS


MOVED = failed(
    400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=-1009
)


async def test_a_message_follows_its_group() -> None:
    """A group that became a supergroup gets the message there, without the lost reply."""
    there = {"ok": True, "result": {"message_id": 1, "chat": {"id": -1009}}}
    channel, http = connector(MOVED, (200, there))
    assert await channel.send(DELIVERY) == Accepted("-1009:1")
    assert http.asked[1][2] == {"chat_id": "-1009", "text": "Olá 👋"}


async def test_a_group_is_followed_once() -> None:
    """When that one has moved too, the error names where to."""
    channel, http = connector(MOVED)
    outcome = await channel.send(DELIVERY)
    assert isinstance(outcome, SendError)
    assert (outcome.verdict, outcome.code) == (Verdict.FINAL, "provider_chat_migrated")
    assert "supergroup -1009;" in outcome.detail
    assert len(http.asked) == 2


def test_a_text_fits_by_its_utf16_units() -> None:
    """An emoji counts twice."""
    channel, _ = connector()
    assert channel.fits("x" * 4096)
    assert channel.fits("👋" * 2048)
    assert not channel.fits("x" * 4097)
    assert not channel.fits("👋" * 2048 + "x")
    assert channel.capabilities.receipts == (Status.SENT,)


def test_the_secret_is_compared_whole() -> None:
    """Another secret, a part of it, none or strange bytes: each is refused."""
    channel, _ = connector()
    secret = ACCOUNT.secret_token
    assert channel.verify("main", b"{}", CIMultiDict({SECRET_HEADER.lower(): secret}), {})
    for presented in ("another", secret[:-1], secret + " ", "", "é", "\udcff"):
        assert not channel.verify("main", b"{}", CIMultiDict({SECRET_HEADER: presented}), {})
    assert not channel.verify("main", b"{}", CIMultiDict[str](), {})


def test_no_challenge_is_answered() -> None:
    """This provider sends none."""
    channel, _ = connector()
    assert channel.challenge("main", {"hub.mode": "subscribe", "hub.challenge": "1"}) is None


HOOK = "https://chat.example/webhooks/telegram"
ME: tuple[int, object] = (200, {"ok": True, "result": {"id": 1, "is_bot": True}})
DONE: tuple[int, object] = (200, {"ok": True, "result": True})


def info(**changes: object) -> tuple[int, object]:
    """Return where updates go: as we want it, with changes."""
    kinds = ["callback_query", "edited_message", "message", "message_reaction"]
    return 200, {"ok": True, "result": {"url": f"{HOOK}/main", "allowed_updates": kinds} | changes}


@pytest.mark.parametrize(
    ("found", "sets"),
    [
        pytest.param(info(), False, id="as we want it"),
        pytest.param(info(last_error_message="Connection refused"), False, id="was away"),
        pytest.param(info(url=""), True, id="none"),
        pytest.param(info(url="https://old.example/x"), True, id="another address"),
        pytest.param(info(allowed_updates=["message"]), True, id="other kinds"),
        pytest.param(
            info(last_error_message="Wrong response from the webhook: 401 Unauthorized"),
            True,
            id="another secret",
        ),
    ],
)
async def test_updates_are_sent_to_us(found: tuple[int, object], *, sets: bool) -> None:
    """The webhook is set when address, kinds or secret differ, and only then."""
    channel, http = connector(ME, found, DONE, webhook_url=f"{HOOK}/")
    assert await channel.check_credentials("main") is None
    assert http.methods() == ["getMe", "getWebhookInfo"] + ["setWebhook"] * sets
    if sets:
        assert http.asked[2][2] == {
            "url": f"{HOOK}/main",
            "secret_token": ACCOUNT.secret_token,
            "allowed_updates": ["message", "edited_message", "message_reaction", "callback_query"],
        }


async def test_without_an_address_only_the_token_is_checked() -> None:
    """Somebody else sets the webhook then."""
    channel, http = connector(ME)
    assert await channel.check_credentials("main") is None
    assert http.methods() == ["getMe"]


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        pytest.param([failed(401, "Unauthorized")], Verdict.ACCOUNT, id="token"),
        pytest.param([(502, b"<html>")], Verdict.AMBIGUOUS, id="provider away"),
        pytest.param([ME, (200, b"{}")], Verdict.AMBIGUOUS, id="info not readable"),
        pytest.param([ME, DONE], Verdict.AMBIGUOUS, id="info of nothing"),
        pytest.param(
            [ME, info(url=""), failed(400, "Bad Request: bad webhook: failed to resolve host")],
            Verdict.ACCOUNT,
            id="address refused",
        ),
        pytest.param(
            [ME, info(url=""), failed(429, "Too Many Requests: retry after 1", retry_after=1)],
            Verdict.THROTTLED,
            id="set by another instance just now",
        ),
    ],
)
async def test_what_is_wrong_with_an_account_is_told(
    answers: list[tuple[int, object]], verdict: Verdict
) -> None:
    """A bot that cannot be written to is refused like one that cannot write."""
    channel, _ = connector(*answers, webhook_url=HOOK)
    error = await channel.check_credentials("main")
    assert error is not None
    assert error.verdict is verdict
