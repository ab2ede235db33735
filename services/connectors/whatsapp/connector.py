"""Speaks the WhatsApp Cloud API for the accounts of a configuration."""

import hmac
from collections.abc import Mapping
from hashlib import sha256

import msgspec
from msgspec import Struct

from services.connectors.base import (
    Accepted,
    Answer,
    Delivery,
    Http,
    Outcome,
    ProviderId,
    SendError,
    Update,
)
from services.connectors.whatsapp import payloads
from services.connectors.whatsapp.config import Account, Config
from services.connectors.whatsapp.errors import send_error
from services.contracts.channels import Capabilities, Limits
from services.contracts.status import Status

SIGNATURE_HEADER = "X-Hub-Signature-256"
TEXT_LENGTH_MAX = 4096


class _Named(Struct, frozen=True):
    id: ProviderId


class _Sent(Struct, frozen=True):
    messages: list[_Named]


class _Error(Struct, frozen=True):
    message: str = ""
    code: int | None = None


class _Failed(Struct, frozen=True):
    error: _Error


class WhatsApp:
    """The channel's connector."""

    name = "WHATSAPP"
    account_scoped = False
    limits = Limits(
        account_per_s=80, account_burst=80, recipient_interval_s=6.0, recipient_burst=45
    )
    capabilities = Capabilities(
        receipts=(Status.SENT, Status.DELIVERED, Status.READ), text_length_max=TEXT_LENGTH_MAX
    )

    def __init__(self, config: Config, http: Http) -> None:
        self._accounts = config.accounts
        self._version = config.api_version
        self._http = http
        self.accounts = tuple(config.accounts)

    async def check_credentials(self, account: str) -> SendError | None:
        """Ask for the phone number's own record, which takes a good token and the right number."""
        used = self._accounts[account]
        answer = await self._http.call(
            "GET",
            f"/{self._version}/{used.phone_number_id}?fields=display_phone_number,verified_name",
            headers=_authorization(used),
        )
        return None if answer.status == 200 else _error(answer)  # noqa: PLR2004

    def fits(self, text: str) -> bool:
        """Tell whether a text is short enough for one message."""
        return len(text) <= TEXT_LENGTH_MAX

    async def send(self, delivery: Delivery) -> Outcome:
        """Send a text once."""
        account = self._accounts[delivery.account]
        answer = await self._http.call(
            "POST",
            f"/{self._version}/{account.phone_number_id}/messages",
            headers={**_authorization(account), "Content-Type": "application/json"},
            body=payloads.text_message(delivery),
        )
        if answer.status != 200:  # noqa: PLR2004
            return _error(answer)
        try:
            return Accepted(msgspec.json.decode(answer.body, type=_Sent).messages[0].id)
        except (msgspec.DecodeError, UnicodeDecodeError, IndexError):
            return send_error(500, None, "An answer of 200 named no message.", {})

    def verify(
        self,
        account: str,
        raw: bytes,
        headers: Mapping[str, str],
        query: Mapping[str, str],  # noqa: ARG002
    ) -> bool:
        """Compare the signature header with the HMAC-SHA256 of the raw bytes."""
        expected = hmac.new(self._accounts[account].app_secret.encode(), raw, sha256).hexdigest()
        presented = headers.get(SIGNATURE_HEADER, "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(presented, f"sha256={expected}".encode())

    def challenge(self, account: str, query: Mapping[str, str]) -> str | None:
        """Return the opaque challenge when the mode and the verify token are right."""
        token = query.get("hub.verify_token", "").encode("utf-8", "surrogateescape")
        right = hmac.compare_digest(token, self._accounts[account].verify_token.encode())
        if not right or query.get("hub.mode") != "subscribe":
            return None
        return query.get("hub.challenge")

    def parse_webhook(self, account: str, raw: bytes) -> list[Update] | None:
        """Return all messages and statuses of all changes; None when one is for another number."""
        return payloads.updates(raw, self._accounts[account].phone_number_id)


def create(config: Config, http: Http) -> WhatsApp:
    """Return the connector for a configuration."""
    return WhatsApp(config, http)


def _authorization(account: Account) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.access_token}"}


def _error(answer: Answer) -> SendError:
    try:
        error = msgspec.json.decode(answer.body, type=_Failed).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = _Error("The provider's answer has no error envelope.")
    return send_error(answer.status, error.code, error.message, answer.headers)
