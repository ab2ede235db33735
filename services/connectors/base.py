"""What a channel folder implements, and the values it speaks in."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Protocol
from uuid import UUID

from msgspec import Meta, Struct

from services.contracts.channels import Capabilities, Limits
from services.contracts.records import Reason
from services.contracts.status import Status
from services.runtime.config import Config

ProviderId = Annotated[str, Meta(min_length=1, max_length=512, pattern=r"\A[^\x00]+\Z")]
"""What a provider calls a message or a customer, as far as PostgreSQL can keep and index it."""
PART_MAX = 2**15 - 1
"""PostgreSQL keeps the number of a part as a smallint."""


def storable(text: str) -> str:
    """Return what a provider says as PostgreSQL can keep it: without NUL."""
    return text.replace("\0", "")


class ConnectorConfig(Config, frozen=True, kw_only=True):
    """What every connector is told; a channel's own config adds its accounts."""

    channel: str
    provider_url: str
    send_timeout_s: float = 10.0
    quota_profile: Annotated[str, Meta(pattern="^(real|high-quota)$")] = "real"
    """Whether the provider's own limits are kept; simulators of a benchmark have none."""
    sends_max: int = 64
    unknown_deadline_s: float = 120.0
    parked_deadline_s: float = 600.0


class Delivery(Struct, frozen=True, kw_only=True):
    """One part of a message on its way to one recipient.

    `reference` names this delivery and attempt; a provider that echoes it gives evidence of a
    send whose answer was lost.
    """

    account: str
    address: str
    content: str
    reference: str
    reply_to_provider_id: str | None = None


class Accepted(Struct, frozen=True):
    """The provider took the message and named it."""

    provider_id: str


class Verdict(StrEnum):
    """What an error means for the delivery."""

    RETRYABLE = "RETRYABLE"
    """Not processed; another attempt may succeed."""
    THROTTLED = "THROTTLED"
    """Not processed; to be tried again after the time the provider says, at no cost."""
    AMBIGUOUS = "AMBIGUOUS"
    """It may have been processed."""
    FINAL = "FINAL"
    """It will never be delivered."""
    ACCOUNT = "ACCOUNT"
    """The account may not send now; its messages wait until its credentials are accepted."""


class SendError(Struct, frozen=True, kw_only=True):
    """The provider did not take the message: what that means, a stable code and a sentence."""

    verdict: Verdict
    code: str
    detail: str
    retry_after_s: float | None = None
    whole_account: bool = False
    """Of a throttle: every recipient of the account is meant."""


Outcome = Accepted | SendError


class StatusUpdate(Struct, frozen=True, kw_only=True):
    """What a webhook says about a message that we sent."""

    provider_id: str
    status: Status
    at: datetime
    reference: str | None = None
    reason: Reason | None = None


class InboundMessage(Struct, frozen=True, kw_only=True):
    """What a customer wrote. `content` is None for a kind we cannot show; `raw` then keeps it."""

    provider_id: str
    address: str
    at: datetime
    content: str | None
    sender_name: str | None = None
    reply_to_provider_id: str | None = None
    raw: str | None = None


class Echo(Struct, frozen=True, kw_only=True):
    """The provider shows a text that went out from our account: evidence of a send of ours.

    It carries no reference, so it is matched by address and text, one to one and in order.
    """

    provider_id: str
    address: str
    content: str
    at: datetime


Update = StatusUpdate | InboundMessage | Echo


class Answer(Struct, frozen=True):
    """What a provider answered over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotWritten(Exception):  # noqa: N818 - a fact about a request
    """No byte of the request was written; it certainly had no effect."""


class Unanswered(Exception):  # noqa: N818 - a fact about a request
    """The request was written at least in part and no answer was read; it may have had effect."""


class Http(Protocol):
    """HTTP to the provider. Raises NotWritten or Unanswered when there is no answer."""

    async def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> Answer:
        """Send one request and read its answer."""


class Connector(Protocol):
    """One channel: the provider's protocol and nothing else."""

    name: str
    """The channel's name in the API, upper case."""
    capabilities: Capabilities
    accounts: Sequence[str]
    account_scoped: bool
    """True when an address means somebody only within one account."""
    limits: Limits

    async def check_credentials(self, account: str) -> SendError | None:
        """Ask the provider whether the account's credentials are good; None when they are."""

    def fits(self, text: str) -> bool:
        """Tell whether the provider takes a text as one message."""

    async def send(self, delivery: Delivery) -> Outcome:
        """Send one part of a message, once."""

    def verify(
        self, account: str, raw: bytes, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> bool:
        """Tell whether the provider signed exactly these bytes for this account.

        Of the headers only the content type, the user agent and those that begin with X- are here.
        """

    def challenge(self, account: str, query: Mapping[str, str]) -> str | None:
        """Return the answer to the provider's verification request; None refuses it."""

    def parse_webhook(self, account: str, raw: bytes) -> list[Update] | None:
        """Return every update of a verified webhook; None when it is not for this account.

        It was signed, so what it says is lost when it is refused: what makes no sense is kept raw.
        Raise msgspec.DecodeError for a body that is not even in the provider's format.
        """


class Reference(Struct, frozen=True, kw_only=True):
    """Names a delivery's part and attempt; its text is what a provider echoes."""

    message_id: UUID
    recipient_id: UUID
    part: int
    attempt_id: UUID

    def __str__(self) -> str:
        return f"{self.message_id}:{self.recipient_id}:{self.part}:{self.attempt_id}"

    @classmethod
    def parse(cls, text: str | None) -> "Reference | None":
        """Read a reference; None when the text is not one of ours."""
        try:
            message_id, recipient_id, part, attempt_id = (text or "").split(":")
            if not 0 <= int(part) <= PART_MAX:
                return None
            return cls(
                message_id=UUID(message_id),
                recipient_id=UUID(recipient_id),
                part=int(part),
                attempt_id=UUID(attempt_id),
            )
        except ValueError:
            return None
