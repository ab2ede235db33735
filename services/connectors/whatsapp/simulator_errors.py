"""The errors of the Graph API: one table of codes, one envelope."""

import secrets
from typing import NamedTuple

import msgspec
from aiohttp import web

from services.connectors.simulator_faults import Fault, Kind

SEEN = "seen"
OAUTH = "OAuthException"
GRAPH_METHOD = "GraphMethodException"


class Known(NamedTuple):
    """A code's text, and its HTTP status as documented and as seen: the two disagree."""

    text: str
    documented: int
    seen: int


EXPIRED = 463
UNKNOWN_OBJECT = 33
KNOWN = {
    1: Known("An unknown error occurred", 400, 500),
    2: Known("Service temporarily unavailable", 503, 400),
    4: Known("Application request limit reached", 429, 400),
    10: Known("Application does not have permission for this action", 403, 500),
    100: Known("Invalid parameter", 400, 400),
    190: Known("Invalid OAuth access token", 401, 400),
    368: Known("Temporarily blocked for policies violations", 403, 400),
    2500: Known("Unknown path components", 400, 400),
    80007: Known("Rate limit issues", 429, 400),
    130429: Known("Rate limit hit", 429, 400),
    130472: Known("User's number is part of an experiment", 400, 400),
    131000: Known("Something went wrong", 500, 400),
    131005: Known("Access denied", 403, 400),
    131008: Known("Required parameter is missing", 400, 400),
    131009: Known("Parameter value is not valid", 400, 400),
    131016: Known("Service unavailable", 500, 503),
    131021: Known("Recipient cannot be sender", 400, 400),
    131026: Known("Message undeliverable", 400, 400),
    131031: Known("Account has been locked", 403, 400),
    131042: Known("Business eligibility payment issue", 400, 400),
    131045: Known("Incorrect certificate", 500, 400),
    131047: Known("Re-engagement message", 400, 400),
    131048: Known("Spam rate limit hit", 400, 429),
    131049: Known("This message was not delivered to maintain healthy engagement", 400, 400),
    131051: Known("Unsupported message type", 400, 400),
    131056: Known("(Business Account, Consumer Account) pair rate limit hit", 400, 429),
    131057: Known("Account in maintenance mode", 500, 400),
    132001: Known("Template name does not exist in the translation", 404, 400),
}
_UNKNOWN = Known("An error was scripted", 400, 400)


class Refusal(Exception):  # noqa: N818 - what the provider does with a request
    """A request is answered with an error."""

    def __init__(
        self,
        code: int,
        details: str,
        *,
        subcode: int | None = None,
        kind: str = OAUTH,
        status: int | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details
        self.subcode = subcode
        self.kind = kind
        self.status = status
        self.retry_after_s = retry_after_s

    def http_status(self, mode: str) -> int:
        """Return the HTTP status, as documented or as seen."""
        known = KNOWN.get(self.code, _UNKNOWN)
        return self.status or (known.seen if mode == SEEN else known.documented)

    def answer(self, mode: str) -> web.Response:
        """Return the error envelope."""
        error: dict[str, object] = {
            "message": f"(#{self.code}) {KNOWN.get(self.code, _UNKNOWN).text}",
            "type": self.kind,
            "code": self.code,
        }
        if self.code in (190, 2500) or self.subcode == UNKNOWN_OBJECT:
            error["message"] = self.details
        else:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.details}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        error["fbtrace_id"] = "A" + secrets.token_urlsafe(16)
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s is not None else {}
        return web.Response(
            body=msgspec.json.encode({"error": error}),
            status=self.http_status(mode),
            content_type="application/json",
            headers=headers,
        )


def scripted(fault: Fault) -> Refusal:
    """Return the refusal that a fault asks for."""
    default = 130429 if fault.kind is Kind.THROTTLE else 131000
    code = fault.code if fault.code is not None else default
    return Refusal(
        code,
        "This error was scripted.",
        subcode=fault.subcode,
        status=fault.status,
        retry_after_s=fault.retry_after_s,
    )


def expired() -> Refusal:
    """Return the refusal of a token that is no longer valid."""
    text = "Error validating access token: Session has expired."
    return Refusal(190, text, subcode=EXPIRED)


def unknown_object(method: str, object_id: str) -> Refusal:
    """Return the refusal of an object that does not exist or belongs to somebody else."""
    text = (
        f"Unsupported {method.lower()} request. Object with ID '{object_id}' does not exist, "
        "cannot be loaded due to missing permissions, or does not support this operation."
    )
    return Refusal(100, text, subcode=UNKNOWN_OBJECT, kind=GRAPH_METHOD)
