"""What the Telegram connector is told; run as a module, makes credentials for a simulator."""

import secrets
import sys
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from services.connectors.base import ConnectorConfig

BotToken = Annotated[str, Meta(pattern=r"\A[1-9][0-9]{0,15}:[A-Za-z0-9_-]{16,64}\Z")]
SecretToken = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{16,256}\Z")]
Url = Annotated[str, Meta(pattern=r"\Ahttps?://")]
PROVIDER_URL = "https://api.telegram.org"


class Account(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One bot, and what proves that a webhook is about it."""

    bot_token: BotToken
    secret_token: SecretToken


class Config(ConnectorConfig, frozen=True, kw_only=True):
    """The bots by name, and where the provider is.

    With `webhook_url` each bot's updates are asked for at `<webhook_url>/<account>`; without it
    somebody else has told the provider where they go.
    """

    accounts: Annotated[dict[str, Account], Meta(min_length=1)]
    provider_url: str = PROVIDER_URL
    webhook_url: Url | None = None


def random_account() -> Account:
    """Return an account that exists only between a connector and a simulator."""
    return Account(
        bot_token=f"{10**9 + secrets.randbelow(9 * 10**9)}:AAH{secrets.token_urlsafe(24)}",
        secret_token=secrets.token_urlsafe(32),
    )


if __name__ == "__main__":
    made = {name: random_account() for name in ("main", "second")}
    sys.stdout.write(msgspec.json.encode(made).decode() + "\n")
