"""Speaks the Telegram Bot API for the bots of a configuration."""

import hmac
from collections.abc import Mapping

import msgspec

from services.connectors.base import (
    Accepted,
    Answer,
    Delivery,
    Http,
    NotWritten,
    Outcome,
    SendError,
    Unanswered,
    Update,
    Verdict,
)
from services.connectors.telegram import payloads
from services.connectors.telegram.config import Config
from services.connectors.telegram.errors import send_error, unreadable
from services.contracts.channels import Capabilities, Limits
from services.contracts.status import Status

SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 - a header's name
TEXT_LENGTH_MAX = 4096
_BOT = "/bot"
_REFUSED = " 401 "
"""Stands in the last error when we did not accept the secret of an update."""


class Telegram:
    """The channel's connector.

    A chat id is the same person or group for every bot, though each bot may only write to those
    who wrote to it: that is why a conversation keeps to the account in which it began.
    """

    name = "TELEGRAM"
    account_scoped = False
    capabilities = Capabilities(receipts=(Status.SENT,), text_length_max=TEXT_LENGTH_MAX)
    limits = Limits(account_per_s=30, account_burst=30, recipient_interval_s=1.0, recipient_burst=3)

    def __init__(self, config: Config, http: Http) -> None:
        self._accounts = config.accounts
        self._webhook_url = config.webhook_url
        self._http = http
        self.accounts = tuple(config.accounts)

    async def check_credentials(self, account: str) -> SendError | None:
        """Ask who the bot is, then see to it that its updates come to us, if that is our task."""
        bot = _result(await self._call(account, "getMe"))
        if isinstance(bot, SendError):
            return bot
        return await self._register(account) if self._webhook_url is not None else None

    def fits(self, text: str) -> bool:
        """Tell whether a text is short enough for one message, in UTF-16 code units."""
        return len(text.encode("utf-16-le", "surrogatepass")) <= 2 * TEXT_LENGTH_MAX

    async def send(self, delivery: Delivery) -> Outcome:
        """Send a text once; again, to where its group went, when nothing was sent because of that.

        The second request is the same attempt: the answer to the first one refused it.
        """
        answer = await self._call(delivery.account, "sendMessage", payloads.text_message(delivery))
        moved_to = payloads.migrated_to(answer.body)
        if moved_to is not None:
            there = msgspec.structs.replace(delivery, address=str(moved_to))
            answer = await self._call(there.account, "sendMessage", payloads.text_message(there))
        result = _result(answer)
        if isinstance(result, SendError):
            return result
        try:
            sent = msgspec.json.decode(result, type=payloads.Sent)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return unreadable(answer.status, {})
        return Accepted(f"{sent.chat.id}:{sent.message_id}")

    def verify(
        self,
        account: str,
        raw: bytes,  # noqa: ARG002
        headers: Mapping[str, str],
        query: Mapping[str, str],  # noqa: ARG002
    ) -> bool:
        """Compare the secret in the header; it is the account's own, and no signature."""
        presented = headers.get(SECRET_HEADER, "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(presented, self._accounts[account].secret_token.encode())

    def challenge(self, account: str, query: Mapping[str, str]) -> str | None:  # noqa: ARG002
        """Refuse: this provider verifies no address."""
        return None

    def parse_webhook(self, account: str, raw: bytes) -> list[Update] | None:  # noqa: ARG002
        """Return what the one update of a webhook says; its secret has told whose it is."""
        return payloads.updates(raw)

    async def _register(self, account: str) -> SendError | None:
        """Tell the provider where updates go, unless it sends them there and we take them.

        It never says which secret it sends, only that we refused it.
        """
        asked = _result(await self._call(account, "getWebhookInfo"))
        if isinstance(asked, SendError):
            return asked
        try:
            info = msgspec.json.decode(asked, type=payloads.WebhookInfo)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return unreadable(200, {})
        url = f"{(self._webhook_url or '').rstrip('/')}/{account}"
        same_kinds = set(info.allowed_updates) == set(payloads.ALLOWED_UPDATES)
        if info.url == url and same_kinds and _REFUSED not in f"{info.last_error_message} ":
            return None
        body = payloads.set_webhook(url, self._accounts[account].secret_token)
        error = _result(await self._call(account, "setWebhook", body))
        if isinstance(error, SendError) and error.verdict is Verdict.FINAL:
            detail = f"The webhook's address was refused: {error.detail}"
            return msgspec.structs.replace(error, verdict=Verdict.ACCOUNT, detail=detail)
        return error if isinstance(error, SendError) else None

    async def _call(self, account: str, method: str, body: bytes | None = None) -> Answer:
        """Call a method of a bot; the path holds the bot's token, so no error may show it."""
        path = f"{_BOT}{self._accounts[account].bot_token}/{method}"
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            return await self._http.call("POST", path, headers=headers, body=body)
        except (NotWritten, Unanswered) as error:
            raise type(error)(str(error).partition(_BOT)[0]) from None


def create(config: Config, http: Http) -> Telegram:
    """Return the connector for a configuration."""
    return Telegram(config, http)


def _result(answer: Answer) -> msgspec.Raw | SendError:
    """Return what an answer is about, or the value of the error it tells."""
    try:
        envelope = msgspec.json.decode(answer.body, type=payloads.Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return unreadable(answer.status, answer.headers)
    if envelope.ok:
        return envelope.result
    return send_error(
        envelope.error_code or answer.status,
        envelope.description,
        retry_after_s=envelope.parameters.retry_after,
        migrated_to=envelope.parameters.migrate_to_chat_id,
    )
