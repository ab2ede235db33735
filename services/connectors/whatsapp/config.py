"""What the WhatsApp connector is told; run as a module, makes credentials for a simulator."""

import secrets
import sys
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from services.connectors.base import ConnectorConfig
from services.runtime.config import Secret

Digits = Annotated[str, Meta(pattern=r"\A[0-9]{3,32}\Z")]
PROVIDER_URL = "https://graph.facebook.com"


class Account(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One business phone number and what proves that we may use it."""

    phone_number_id: Digits
    waba_id: Digits
    display_phone_number: Digits
    access_token: Secret
    app_secret: Secret
    verify_token: Secret


class Config(ConnectorConfig, frozen=True, kw_only=True):
    """The accounts by name, and where the provider is."""

    accounts: Annotated[dict[str, Account], Meta(min_length=1)]
    provider_url: str = PROVIDER_URL
    api_version: Annotated[str, Meta(pattern=r"\Av[0-9]+\.[0-9]+\Z")] = "v23.0"


def random_account() -> Account:
    """Return an account that exists only between a connector and a simulator."""
    return Account(
        phone_number_id=_digits(15),
        waba_id=_digits(15),
        display_phone_number=f"1555{_digits(7)}",
        access_token=secrets.token_urlsafe(32),
        app_secret=secrets.token_hex(32),
        verify_token=secrets.token_urlsafe(32),
    )


def _digits(count: int) -> str:
    return str(10 ** (count - 1) + secrets.randbelow(9 * 10 ** (count - 1)))


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode({"main": random_account()}).decode() + "\n")
