"""The way in: every API request to its service, every webhook to its connector."""

from collections import defaultdict

import msgspec
from aiohttp import web
from msgspec import Struct

from services.api_gateway.access import access, allowed, is_account
from services.api_gateway.docs import OPEN_PATHS
from services.api_gateway.keys import Holder, Keys, presented
from services.contracts.ids import new_text_id
from services.contracts.problems import Problem
from services.runtime.channels import Channels
from services.runtime.http.client import EXPECT_HEADER, Siblings
from services.runtime.http.server import (
    BODY_SIZE_MAX_BYTES,
    REQUEST_ID,
    REQUEST_ID_HEADER,
    read_body,
)
from services.runtime.http.wire import Answer
from services.runtime.telemetry import trace

API_PREFIX = "/api/v1/"
WEBHOOK_PREFIX = "/webhooks/"
API_KEY_ID_HEADER = "X-Api-Key-Id"
SUGGESTED_ID_HEADER = "X-Suggested-Id"
"""Names what a request creates unless its body does, so that it can be repeated elsewhere."""
ACCEPTING = ("POST", "/api/v1/messages")
WEBHOOK_SIZE_MAX_BYTES = 4 * 1024 * 1024
WEBHOOKS_IN_FLIGHT_MAX = 64
"""For each channel: one provider's storm leaves the others their share."""
CALL_TIMEOUT_S = 10.0
HOLDER = web.RequestKey("holder", Holder)
_SENT_ON = ("Content-Type", "Idempotency-Key", "Accept")
_SENT_BACK = ("Content-Type", "Retry-After", "Location", "Allow", "Idempotency-Replay")
_OURS = {
    name.lower()
    for name in (
        API_KEY_ID_HEADER,
        SUGGESTED_ID_HEADER,
        EXPECT_HEADER,
        REQUEST_ID_HEADER,
        "X-API-Key",
        trace.HEADER,
    )
}
_PROVIDERS = ("content-type", "user-agent")


class _Addressed(Struct):
    """What of a new message says where it belongs."""

    conversation_id: str


class GatewayRoutes:
    """Forwards what may pass."""

    def __init__(self, siblings: Siblings, keys: Keys, channels: Channels) -> None:
        self._siblings = siblings
        self._keys = keys
        self._channels = channels
        self._in_flight: defaultdict[str, int] = defaultdict(int)
        self._addressed = msgspec.json.Decoder(_Addressed)

    async def guard(self, request: web.Request) -> None:
        """Let webhooks pass to be verified by their connector, and all else by its API key.

        The description of the API is for everybody.
        """
        if request.path.startswith(WEBHOOK_PREFIX) or request.path in OPEN_PATHS:
            return
        request[HOLDER] = await self._keys.holder(presented(request))

    async def api(self, request: web.Request) -> web.Response:
        """Forward an API request to the service that has the resource."""
        resource = request.match_info["resource"]
        found = access(request.method, resource)
        if found is None:
            raise Problem("not_found")
        holder = request[HOLDER]
        if not allowed(holder.scopes, found.scope):
            raise Problem("missing_scope", f"It takes the scope {found.scope}.")
        sent = request.headers
        headers = {name: sent[name] for name in _SENT_ON if name in sent}
        headers[API_KEY_ID_HEADER] = holder.key_id
        headers[SUGGESTED_ID_HEADER] = new_text_id()
        body = await read_body(request, BODY_SIZE_MAX_BYTES) if request.can_read_body else None
        return await self._forward(request, found.service, _within_api(request), body, headers)

    async def webhook(self, request: web.Request) -> web.Response:
        """Forward a webhook's raw bytes to the channel's connector, which verifies them."""
        channel, account = request.match_info["channel"].upper(), request.match_info["account"]
        if channel not in self._channels.states:
            raise Problem("not_found", "There is no such channel.")
        if not is_account(account):
            raise Problem("not_found", "There is no such account.")
        if self._in_flight[channel] >= WEBHOOKS_IN_FLIGHT_MAX:
            raise Problem("unavailable", "Too many webhooks at once.", retry_after_s=1)
        self._in_flight[channel] += 1
        try:
            body = await read_body(request, WEBHOOK_SIZE_MAX_BYTES)
            headers = {n: v for n, v in request.headers.items() if _is_providers(n.lower())}
            path = f"{WEBHOOK_PREFIX}{account}{_query(request)}"
            service = f"connector-{channel.lower()}"
            return await self._forward(request, service, path, body, headers)
        finally:
            self._in_flight[channel] -= 1

    def _conversation_of(self, request: web.Request, body: bytes | None) -> str | None:
        """Return the conversation that a request is about: one instance remembers it."""
        if request.match_info.get("resource") == "conversations":
            return request.match_info.get("rest", "").partition("/")[0] or None
        if (request.method, request.path) != ACCEPTING:
            return None
        try:
            return self._addressed.decode(body or b"").conversation_id
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    async def _forward(
        self,
        request: web.Request,
        service: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> web.Response:
        headers[REQUEST_ID_HEADER] = request[REQUEST_ID]
        answer = await self._siblings.request(
            service,
            request.method,
            path,
            body=body,
            headers=headers,
            timeout_s=CALL_TIMEOUT_S,
            repeatable=request.method == "GET" or (request.method, path) == ACCEPTING,
            key=self._conversation_of(request, body),
        )
        return _answer(answer)


def _answer(answer: Answer) -> web.Response:
    sent = answer.headers
    back = {name: sent[name] for name in _SENT_BACK if name in sent}
    return web.Response(status=answer.status, body=answer.body or None, headers=back)


def _within_api(request: web.Request) -> str:
    """Return the path to ask for; refuse one that would lead out of the API when normalised."""
    path = request.path
    if "//" in path or "\\" in path or (".." in path and ".." in path.split("/")):
        raise Problem("not_found")
    return request.rel_url.raw_path + _query(request)


def _query(request: web.Request) -> str:
    query = request.rel_url.raw_query_string
    return f"?{query}" if query else ""


def _is_providers(name: str) -> bool:
    return name in _PROVIDERS or (name.startswith("x-") and name not in _OURS)
