"""Speaks Instagram Messaging for the accounts of a configuration."""

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
    Verdict,
)
from services.connectors.instagram import payloads
from services.connectors.instagram.config import INSTAGRAM_LOGIN, Config
from services.connectors.instagram.errors import send_error
from services.contracts.channels import Capabilities, Limits
from services.contracts.status import Status

SIGNATURE_HEADER = "X-Hub-Signature-256"
TEXT_SIZE_MAX_BYTES = 1000


class _Sent(Struct, frozen=True):
    message_id: ProviderId


class _Owner(Struct, frozen=True):
    """Whose token it is: `user_id` is the account's own id, `id` may be one for this app only.

    The answer was seen flat and is documented within a list `data`.
    """

    id: str | int | None = None
    user_id: str | int | None = None
    data: list["_Owner"] = []


class _Error(Struct, frozen=True):
    message: str = ""
    code: int | None = None
    error_subcode: int | None = None


class _Failed(Struct, frozen=True):
    error: _Error


class Instagram:
    """The channel's connector."""

    name = "INSTAGRAM"
    account_scoped = True
    limits = Limits(
        account_per_s=100, account_burst=100, recipient_interval_s=0.01, recipient_burst=100
    )
    capabilities = Capabilities(
        receipts=(Status.SENT, Status.READ), text_length_max=TEXT_SIZE_MAX_BYTES
    )

    def __init__(self, config: Config, http: Http) -> None:
        self._config = config
        self._accounts = config.accounts
        self._http = http
        self.accounts = tuple(config.accounts)

    async def check_credentials(self, account: str) -> SendError | None:
        """Ask whose token it is: it must be good, and this account's."""
        by_instagram = self._config.login == INSTAGRAM_LOGIN
        fields = "user_id,username" if by_instagram else "id,name"
        answer = await self._http.call(
            "GET",
            f"/{self._config.api_version}/me?fields={fields}",
            headers=self._authorization(account),
        )
        if answer.status != 200:  # noqa: PLR2004
            return _error(answer)
        owner = _owner(answer.body)
        found = owner.user_id if by_instagram else owner.id
        if found is None:
            return _unreadable("An answer of 200 named no account.")
        if str(found) == self._config.node(account):
            return None
        return SendError(
            verdict=Verdict.ACCOUNT,
            code="wrong_account",
            detail="The access token belongs to another account.",
        )

    def fits(self, text: str) -> bool:
        """Tell whether a text is short enough for one message, in bytes."""
        return len(text.encode()) <= TEXT_SIZE_MAX_BYTES

    async def send(self, delivery: Delivery) -> Outcome:
        """Send a text once."""
        answer = await self._http.call(
            "POST",
            f"/{self._config.api_version}/{self._config.node(delivery.account)}/messages",
            headers={
                **self._authorization(delivery.account),
                "Content-Type": "application/json",
            },
            body=payloads.text_message(delivery),
        )
        if answer.status != 200:  # noqa: PLR2004
            return _error(answer)
        try:
            return Accepted(msgspec.json.decode(answer.body, type=_Sent).message_id)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _unreadable("An answer of 200 named no message.")

    def verify(
        self,
        account: str,
        raw: bytes,
        headers: Mapping[str, str],
        query: Mapping[str, str],  # noqa: ARG002
    ) -> bool:
        """Compare the signature header with the HMAC-SHA256 of the raw bytes under each secret."""
        presented = headers.get(SIGNATURE_HEADER, "").encode("utf-8", "surrogateescape")
        return any(
            hmac.compare_digest(
                presented, f"sha256={hmac.new(secret.encode(), raw, sha256).hexdigest()}".encode()
            )
            for secret in self._accounts[account].app_secrets
        )

    def challenge(self, account: str, query: Mapping[str, str]) -> str | None:
        """Return the opaque challenge when the mode and the verify token are right."""
        token = query.get("hub.verify_token", "").encode("utf-8", "surrogateescape")
        right = hmac.compare_digest(token, self._accounts[account].verify_token.encode())
        if not right or query.get("hub.mode") != "subscribe":
            return None
        return query.get("hub.challenge")

    def parse_webhook(self, account: str, raw: bytes) -> list[Update] | None:
        """Return all that every item says; None when one is for an account that is not this."""
        return payloads.updates(raw, self._accounts[account].ig_id)

    def _authorization(self, account: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._accounts[account].access_token}"}


def create(config: Config, http: Http) -> Instagram:
    """Return the connector for a configuration."""
    return Instagram(config, http)


def _owner(body: bytes) -> _Owner:
    try:
        owner = msgspec.json.decode(body, type=_Owner)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Owner()
    return owner.data[0] if owner.data else owner


def _unreadable(detail: str) -> SendError:
    return SendError(verdict=Verdict.AMBIGUOUS, code="provider_unreadable", detail=detail)


def _error(answer: Answer) -> SendError:
    try:
        error = msgspec.json.decode(answer.body, type=_Failed).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = _Error("The provider's answer has no error envelope.")
    return send_error(answer.status, error.code, error.error_subcode, error.message, answer.headers)
