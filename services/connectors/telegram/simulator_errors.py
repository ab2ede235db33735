"""How the Bot API refuses: one envelope, exact sentences."""

import msgspec
from aiohttp import web

from services.connectors.simulator_faults import Fault, Kind

NGINX = {502: "Bad Gateway", 503: "Service Temporarily Unavailable", 504: "Gateway Time-out"}
"""What the servers in front say themselves, without an envelope."""
SCRIPTED = {
    400: "Bad Request: chat not found",
    401: "Unauthorized",
    403: "Forbidden: bot was blocked by the user",
    404: "Not Found",
    409: "Conflict: terminated by other getUpdates request; "
    "make sure that only one bot instance is running",
    500: "Internal Server Error: restart",
}
_encode = msgspec.json.Encoder().encode


class Refusal(Exception):  # noqa: N818 - what the provider does with a request
    """A request is answered with an error, whose code is the HTTP status too."""

    def __init__(
        self,
        code: int,
        description: str,
        *,
        retry_after: int | None = None,
        migrate_to_chat_id: int | None = None,
    ) -> None:
        super().__init__(code, description)
        self.code = code
        self.description = description
        told = {"retry_after": retry_after, "migrate_to_chat_id": migrate_to_chat_id}
        self.parameters = {name: value for name, value in told.items() if value is not None}

    def answer(self) -> web.Response:
        """Return the envelope, or the page of a server that stands in front."""
        if self.code in NGINX:
            page = f"<html><head><title>{self.code} {NGINX[self.code]}</title></head></html>"
            return web.Response(text=page, status=self.code, content_type="text/html")
        body: dict[str, object] = {
            "ok": False,
            "error_code": self.code,
            "description": self.description,
        }
        headers = {}
        if self.parameters:
            body["parameters"] = self.parameters
        if "retry_after" in self.parameters:
            headers["Retry-After"] = str(self.parameters["retry_after"])
        return web.Response(
            body=_encode(body), status=self.code, content_type="application/json", headers=headers
        )


def too_many_requests(retry_after: int) -> Refusal:
    """Return the refusal of a request that comes too soon."""
    return Refusal(429, f"Too Many Requests: retry after {retry_after}", retry_after=retry_after)


def migrated(chat_id: int) -> Refusal:
    """Return the refusal of a group that became a supergroup."""
    return Refusal(
        400,
        "Bad Request: group chat was upgraded to a supergroup chat",
        migrate_to_chat_id=chat_id,
    )


def scripted(fault: Fault) -> Refusal:
    """Return the refusal that a fault asks for, by its code or its HTTP status."""
    if fault.kind is Kind.THROTTLE:
        return too_many_requests(1 if fault.retry_after_s is None else fault.retry_after_s)
    code = fault.code or fault.status or 500
    return Refusal(code, SCRIPTED.get(code, "Bad Request: this error was scripted"))


def succeeded(result: object, description: str | None = None) -> web.Response:
    """Return the envelope of a result."""
    body = {"ok": True, "result": result}
    if description is not None:
        body["description"] = description
    return web.Response(body=_encode(body), content_type="application/json")
