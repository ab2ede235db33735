"""The errors of the Graph API: one table of codes and subcodes, one envelope."""

import secrets
from typing import NamedTuple

import msgspec
from aiohttp import web

from services.connectors.simulator_faults import Fault, Kind

SEEN = "seen"
OAUTH = "OAuthException"
GRAPH_METHOD = "GraphMethodException"


class Known(NamedTuple):
    """An error's text, and its HTTP status as documented and as seen: the two disagree."""

    text: str
    documented: int
    seen: int


class Code(NamedTuple):
    """What names an error."""

    code: int
    subcode: int | None = None


UNKNOWN_ERROR = Code(1)
INVALID = Code(100)
NO_SUCH_USER = Code(100, 2534014)
UNKNOWN_OBJECT = Code(100, 33)
OUTSIDE_WINDOW = Code(10, 2534022)
INVALID_TOKEN = Code(190)
EXPIRED_TOKEN = Code(190, 463)
TOO_MANY_CALLS = Code(613, 2534040)
UNKNOWN_PATH = Code(2500)
KNOWN = {
    UNKNOWN_ERROR: Known("An unknown error occurred", 400, 500),
    Code(1, 1357046): Known("Received Invalid JSON reply.", 400, 500),
    Code(2): Known("An unexpected error has occurred. Please retry your request later.", 503, 500),
    Code(4): Known("Application request limit reached", 429, 403),
    Code(10): Known("Application does not have permission for this action", 403, 400),
    OUTSIDE_WINDOW: Known("This message is sent outside of allowed window.", 400, 403),
    Code(10, 1893063): Known("The account is restricted from sending messages.", 403, 400),
    Code(17): Known("User request limit reached", 429, 400),
    INVALID: Known("Invalid parameter", 400, 400),
    NO_SUCH_USER: Known("The requested user cannot be found.", 400, 400),
    Code(100, 2534029): Known("The message is blocked.", 400, 403),
    INVALID_TOKEN: Known("Invalid OAuth access token", 401, 400),
    EXPIRED_TOKEN: Known("The session has expired", 401, 400),
    Code(200, 2534041): Known("The account does not allow access to its messages.", 403, 400),
    Code(551): Known("This person isn't available right now.", 400, 400),
    TOO_MANY_CALLS: Known("Calls to this api have exceeded the rate limit.", 429, 400),
    UNKNOWN_PATH: Known("Unknown path components", 400, 400),
    Code(36000): Known("The image size is too large.", 400, 400),
}
_UNKNOWN = Known("An error was scripted", 400, 400)


class Refusal(Exception):  # noqa: N818 - what the provider does with a request
    """A request is answered with an error; its own text stands in place of the table's."""

    def __init__(
        self,
        code: Code,
        text: str | None = None,
        *,
        kind: str = OAUTH,
        status: int | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(code, text)
        self.code = code
        self.known = KNOWN.get(code) or KNOWN.get(Code(code.code), _UNKNOWN)
        self.text = text or self.known.text
        self.kind = kind
        self.status = status
        self.retry_after_s = retry_after_s

    def answer(self, mode: str) -> web.Response:
        """Return the error envelope, with the HTTP status as documented or as seen."""
        plain = self.code.code == INVALID_TOKEN.code or self.kind == GRAPH_METHOD
        error: dict[str, object] = {
            "message": self.text if plain else f"(#{self.code.code}) {self.text}",
            "type": self.kind,
            "code": self.code.code,
        }
        if self.code.subcode is not None:
            error["error_subcode"] = self.code.subcode
        error["fbtrace_id"] = "A" + secrets.token_urlsafe(16)
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s is not None else {}
        return web.Response(
            body=msgspec.json.encode({"error": error}),
            status=self.status or (self.known.seen if mode == SEEN else self.known.documented),
            content_type="application/json",
            headers=headers,
        )


def scripted(fault: Fault) -> Refusal:
    """Return the refusal that a fault asks for."""
    code = TOO_MANY_CALLS if fault.kind is Kind.THROTTLE else UNKNOWN_ERROR
    if fault.code is not None:
        code = Code(fault.code, fault.subcode)
    return Refusal(code, status=fault.status, retry_after_s=fault.retry_after_s)


def unknown_object(method: str, object_id: str) -> Refusal:
    """Return the refusal of an object that does not exist or belongs to somebody else."""
    text = (
        f"Unsupported {method.lower()} request. Object with ID '{object_id}' does not exist, "
        "cannot be loaded due to missing permissions, or does not support this operation."
    )
    return Refusal(UNKNOWN_OBJECT, text, kind=GRAPH_METHOD)
