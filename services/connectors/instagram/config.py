"""What the Instagram connector is told; run as a module, makes credentials for a simulator."""

import secrets
import sys
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from services.connectors.base import ConnectorConfig
from services.runtime.config import InvalidConfig, Secret

Digits = Annotated[str, Meta(pattern=r"\A[0-9]{3,32}\Z")]
INSTAGRAM_LOGIN, FACEBOOK_LOGIN = "instagram", "facebook"
PROVIDER_URLS = {
    INSTAGRAM_LOGIN: "https://graph.instagram.com",
    FACEBOOK_LOGIN: "https://graph.facebook.com",
}


class Account(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One professional account and what proves that we may use it.

    Which of an app's secrets signs webhooks is not documented for every login, so any of
    `app_secrets` may. `page_id` is the page that the Facebook login sends through.
    """

    ig_id: Digits
    page_id: Digits | None = None
    access_token: Secret
    app_secrets: Annotated[tuple[Secret, ...], Meta(min_length=1)]
    verify_token: Secret


class Config(ConnectorConfig, frozen=True, kw_only=True):
    """The accounts by name, and where the provider is: by default where the login has it."""

    accounts: Annotated[dict[str, Account], Meta(min_length=1)]
    login: Annotated[str, Meta(pattern=r"\A(instagram|facebook)\Z")] = INSTAGRAM_LOGIN
    provider_url: str = ""
    api_version: Annotated[str, Meta(pattern=r"\Av[0-9]+\.[0-9]+\Z")] = "v23.0"

    def __post_init__(self) -> None:
        if not self.provider_url:
            force_setattr(self, "provider_url", PROVIDER_URLS[self.login])
        if self.login == FACEBOOK_LOGIN:
            pageless = [name for name, account in self.accounts.items() if not account.page_id]
            if pageless:
                raise InvalidConfig([f"ACCOUNTS: {name} has no page_id" for name in pageless])

    def node(self, account: str) -> str:
        """Return the object that an account's messages are sent through."""
        used = self.accounts[account]
        return (used.page_id if self.login == FACEBOOK_LOGIN else None) or used.ig_id


def random_account() -> Account:
    """Return an account that exists only between a connector and a simulator."""
    return Account(
        ig_id=f"17841{_digits(12)}",
        page_id=_digits(15),
        access_token=secrets.token_urlsafe(32),
        app_secrets=(secrets.token_hex(32), secrets.token_hex(32)),
        verify_token=secrets.token_urlsafe(32),
    )


def _digits(count: int) -> str:
    return str(10 ** (count - 1) + secrets.randbelow(9 * 10 ** (count - 1)))


if __name__ == "__main__":
    accounts = {name: random_account() for name in ("main", "second")}
    sys.stdout.write(msgspec.json.encode(accounts).decode() + "\n")
