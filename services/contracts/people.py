"""What the user service answers to its siblings: people, their identities, API keys."""

from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from services.contracts.records import ChannelName


class Kind(StrEnum):
    """Which side of a conversation a person stands on."""

    AGENT = "AGENT"
    CUSTOMER = "CUSTOMER"


class Address(Struct, frozen=True, kw_only=True):
    """Where a person is reached: an address on a channel; no account means any of ours."""

    channel: ChannelName
    address: str
    account: str | None = None


class Person(Struct, frozen=True, kw_only=True):
    """A user with every address known of them."""

    user_id: UUID
    kind: Kind
    name: str
    addresses: tuple[Address, ...] = ()

    def address_on(self, channel: str) -> Address | None:
        """Return the first address on a channel, or None when there is none."""
        return next((found for found in self.addresses if found.channel == channel), None)


class PeopleQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Asks for people by id; the answer leaves out those who do not exist."""

    user_ids: list[UUID]


class People(Struct, frozen=True):
    """The people that were found."""

    items: list[Person]


class ContactQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks for the person behind an inbound address, who is created when unknown."""

    channel: ChannelName
    account: str
    account_scoped: bool
    address: str
    name: str | None = None


class ApiKeyQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Asks what a presented API key may do, by the SHA-256 of the key in hex."""

    sha256: str


class ApiKeyGrant(Struct, frozen=True, kw_only=True):
    """A valid API key and its scopes, such as `messages:write` or `admin`."""

    key_id: UUID
    name: str
    scopes: tuple[str, ...]
