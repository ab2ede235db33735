"""Speaks the pager exchange's XML for the lines of a configuration."""

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

# It is there in a release, where this folder stands beside the channels.
from services.connectors.pager.config import Account, Config  # type: ignore[import-not-found]

from services.connectors.base import (
    Accepted,
    Answer,
    Delivery,
    Http,
    InboundMessage,
    Outcome,
    SendError,
    StatusUpdate,
    Update,
    Verdict,
)
from services.contracts.channels import Capabilities, Limits
from services.contracts.status import Status

TEXT_LENGTH_MAX = 160
RETRY_AFTER_DEFAULT_S = 1.0
VERDICTS = {
    401: Verdict.ACCOUNT,
    422: Verdict.FINAL,
    429: Verdict.THROTTLED,
    503: Verdict.RETRYABLE,
}
"""One verdict for each documented status; after any other the page may have gone out."""
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Pager:
    """The channel's connector."""

    name = "PAGER"
    account_scoped = False
    limits = Limits(account_per_s=20, account_burst=20, recipient_interval_s=0.1, recipient_burst=9)
    capabilities = Capabilities(
        receipts=(Status.SENT, Status.DELIVERED), text_length_max=TEXT_LENGTH_MAX
    )

    def __init__(self, config: Config, http: Http) -> None:
        self._accounts: Mapping[str, Account] = config.accounts
        self._http = http
        self.accounts = tuple(config.accounts)

    async def check_credentials(self, account: str) -> SendError | None:
        """Ask for the line's own record."""
        used = self._accounts[account]
        answer = await self._http.call("GET", f"/lines/{used.line}", headers=_authorization(used))
        return None if answer.status == 200 else _error(answer)

    def fits(self, text: str) -> bool:
        """Tell whether a text is short enough for one page."""
        return len(text) <= TEXT_LENGTH_MAX

    async def send(self, delivery: Delivery) -> Outcome:
        """Send a page once; XML has no way to write most control characters."""
        if _NO_XML.search(delivery.content):
            detail = "The text has control characters that pages cannot hold."
            return SendError(verdict=Verdict.FINAL, code="text_not_representable", detail=detail)
        account = self._accounts[delivery.account]
        answer = await self._http.call(
            "POST",
            f"/lines/{account.line}/pages",
            headers={**_authorization(account), "Content-Type": "application/xml"},
            body=_page(delivery),
        )
        if answer.status != 201:
            return _error(answer)
        page = _parse(answer.body)
        if page is None or not page.get("id"):
            detail = "An answer of 201 named no page."
            return SendError(verdict=Verdict.AMBIGUOUS, code="provider_unreadable", detail=detail)
        return Accepted(page.attrib["id"])

    def verify(
        self,
        account: str,
        raw: bytes,
        headers: Mapping[str, str],  # noqa: ARG002
        query: Mapping[str, str],
    ) -> bool:
        """Compare the signature in the address with the HMAC-SHA256 of the raw bytes."""
        secret = self._accounts[account].shared_secret
        expected = hmac.new(secret.encode(), raw, sha256).hexdigest()
        presented = query.get("signature", "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(presented, expected.encode())

    def challenge(self, account: str, query: Mapping[str, str]) -> str | None:  # noqa: ARG002
        """Refuse: this provider verifies no address."""
        return None

    def parse_webhook(self, account: str, raw: bytes) -> list[Update] | None:
        """Return what every event says; None when they are of another line."""
        events = _parse(raw)
        if events is None:
            return [_unreadable(raw)]
        if events.get("line") != self._accounts[account].line:
            return None
        return [_update(event) for event in events]


def create(config: Config, http: Http) -> Pager:
    """Return the connector for a configuration."""
    return Pager(config, http)


def _authorization(account: Account) -> dict[str, str]:
    credentials = b64encode(f"{account.line}:{account.password}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


def _page(delivery: Delivery) -> bytes:
    attributes = f"to={quoteattr(delivery.address)} reference={quoteattr(delivery.reference)}"
    text = escape(delivery.content, {"\r": "&#13;"})
    return f"<page {attributes}>{text}</page>".encode()


def _parse(raw: bytes) -> ET.Element | None:
    try:
        # The sender was authenticated, and expat bounds what entities may grow to.
        return ET.fromstring(raw.decode())  # noqa: S314
    except (ET.ParseError, UnicodeDecodeError):
        return None


def _update(event: ET.Element) -> Update:
    try:
        at = datetime.fromisoformat(event.attrib["at"]).astimezone(UTC)
        if event.tag == "delivered":
            return StatusUpdate(
                provider_id=event.attrib["page"],
                status=Status.DELIVERED,
                at=at,
                reference=event.get("reference"),
            )
        if event.tag == "reply":
            return InboundMessage(
                provider_id=event.attrib["id"],
                address=event.attrib["from"],
                at=at,
                content=event.text or "",
                sender_name=event.get("name"),
            )
    except (KeyError, ValueError, OverflowError):
        pass
    return _unreadable(ET.tostring(event))


def _unreadable(raw: bytes) -> InboundMessage:
    """Keep what is signed but makes no sense."""
    return InboundMessage(
        provider_id=f"sha256:{sha256(raw).hexdigest()}",
        address="unknown",
        at=datetime.now(UTC),
        content=None,
        raw=raw.decode(errors="replace"),
    )


def _error(answer: Answer) -> SendError:
    verdict = VERDICTS.get(answer.status, Verdict.AMBIGUOUS)
    error = _parse(answer.body)
    asked = answer.headers.get("Retry-After", "")
    wait_s = float(asked) if asked.isdecimal() else RETRY_AFTER_DEFAULT_S
    return SendError(
        verdict=verdict,
        code=f"provider_http_{answer.status}",
        detail=(error.text if error is not None else None) or "no detail",
        retry_after_s=wait_s if verdict is Verdict.THROTTLED else None,
        whole_account=verdict is Verdict.THROTTLED,
    )
