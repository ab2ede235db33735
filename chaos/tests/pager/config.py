"""What the pager connector is told; run as a module, makes credentials for a simulator."""

import secrets
import sys
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from services.connectors.base import ConnectorConfig
from services.runtime.config import Secret

Digits = Annotated[str, Meta(pattern=r"\A[0-9]{3,15}\Z")]


class Account(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the exchange: its password, and the secret that signs what comes from it."""

    line: Digits
    password: Secret
    shared_secret: Secret


class Config(ConnectorConfig, frozen=True, kw_only=True):
    """The lines by name."""

    accounts: Annotated[dict[str, Account], Meta(min_length=1)]


if __name__ == "__main__":
    account = Account(
        line=str(1000 + secrets.randbelow(9000)),
        password=secrets.token_urlsafe(24),
        shared_secret=secrets.token_urlsafe(24),
    )
    sys.stdout.write(msgspec.json.encode({"main": account}).decode() + "\n")
