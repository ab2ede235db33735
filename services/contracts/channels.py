"""What a channel tells the others about itself, kept in Consul KV under its own key."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from services.contracts.records import ChannelName
from services.contracts.status import Status

INTERNAL = "INTERNAL"
"""Between agents: no provider, and settled as soon as it is stored."""
STATES_PREFIX = "chat4all/channels/"
"""Consul KV: one ChannelState per channel, written by its connector."""
SWITCHES_PREFIX = "chat4all/channel-switches/"
"""Consul KV: `off` under a channel's name keeps it disabled, whatever its connector says."""


class AccountStatus(StrEnum):
    """Whether an account may be used: its credentials were accepted by the provider or not.

    A suspended one was accepted before: its messages are taken, and wait until it is again.
    """

    ENABLED = "ENABLED"
    SUSPENDED = "SUSPENDED"
    UNCHECKED = "UNCHECKED"
    REFUSED = "REFUSED"


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a channel can do; a status that is not in `receipts` is never reported."""

    receipts: tuple[Status, ...]
    text_length_max: int


class Limits(Struct, frozen=True, kw_only=True):
    """What a provider takes of one account, and of one account to one recipient."""

    account_per_s: float
    account_burst: int
    recipient_interval_s: float
    recipient_burst: int


class Quota(Limits, frozen=True, kw_only=True):
    """A provider's limits; they are kept with the profile `real` only."""

    profile: str


class AccountError(Struct, frozen=True, kw_only=True):
    """Something that held an account up, not just one of its messages."""

    at: datetime
    code: str
    detail: str


class AccountState(Struct, frozen=True, kw_only=True):
    """The last answer of the provider about one account's credentials, and the last trouble."""

    status: AccountStatus
    checked_at: datetime
    detail: str | None = None
    last_error: AccountError | None = None


class ChannelState(Struct, frozen=True, kw_only=True):
    """A deployed channel: what it can do and the state of its accounts."""

    channel: ChannelName
    capabilities: Capabilities
    accounts: dict[str, AccountState]
    quota: Quota | None = None

    @property
    def enabled(self) -> bool:
        """True when messages are taken for at least one account."""
        taken = (AccountStatus.ENABLED, AccountStatus.SUSPENDED)
        return any(state.status in taken for state in self.accounts.values())
