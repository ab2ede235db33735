"""What the API's description says beside the services' parts: how to begin, errors, webhooks."""

from collections.abc import Mapping
from typing import Any

from services.api_gateway.access import SERVICES, access
from services.contracts.problems import CATALOGUE
from services.runtime.http.openapi import PUBLIC_PREFIX, Part, problem_responses, response

WEBHOOKS, HEALTH = "webhooks", "health"
TAGS = (*SERVICES, WEBHOOKS, HEALTH)
_INTRODUCTION = """\
One API in front of several messaging channels.

Send `Authorization: Bearer <API key>`. To write to somebody, create a user of each kind
(`AGENT`, `CUSTOMER`), give the customer an identity on a channel, open a conversation of both,
and post a message to it. `202` says that the message is stored and on its way; its status says
how far it came.

Names are in snake_case, times are RFC 3339 in UTC with milliseconds, enumerations in capitals.
A list is answered as `{items, next_cursor}`; pass `next_cursor` as `cursor` until it is null.
Unknown fields are refused.

A request that was answered `503` or `429`, or not at all, may be repeated after `Retry-After`:
a message with the same `message_id` or `Idempotency-Key` is delivered once. `RateLimit-Limit`,
`RateLimit-Remaining` and `RateLimit-Reset` tell what an API key may send.

## Errors

An error is a problem (RFC 9457, `application/problem+json`) with a stable `code`, the `field` it
is about if there is one, and the `request_id` that every answer carries as `X-Request-Id`.

<details><summary>All codes</summary>

| status | code | meaning |
|---|---|---|
"""
INFO = {
    "title": "Chat4All",
    "version": "1.0.0",
    "description": _INTRODUCTION
    + "".join(f"| {status} | `{code}` | {text} |\n" for code, (status, text) in CATALOGUE.items())
    + "\n</details>\n",
}
_OBJECT = {"type": "object", "additionalProperties": {}}
_PATH_PARAMETERS = [
    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    for name in ("channel", "account")
]
_WEBHOOK_CODES = ("not_found", "unknown_account", "internal_error", "unavailable")


def _open(tag: str, name: str, summary: str, responses: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an operation that takes no API key."""
    return {
        "operationId": f"{tag}_{name}",
        "tags": [tag],
        "summary": summary,
        "security": [],
        "responses": responses,
    }


def _health(name: str, summary: str, *, statuses: Mapping[str, str]) -> dict[str, Any]:
    state = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    answers = {
        status: response(text, {"application/json": state}) for status, text in statuses.items()
    }
    return {"get": _open(HEALTH, name, summary, answers)}


OWN = Part(
    {
        "/webhooks/{channel}/{account}": {
            "get": {
                **_open(
                    WEBHOOKS,
                    "verify",
                    "Answer a provider's verification of the webhook's address",
                    {
                        "200": response("The challenge.", {"text/plain": {"type": "string"}}),
                        **problem_responses((*_WEBHOOK_CODES, "verification_refused")),
                    },
                ),
                "parameters": _PATH_PARAMETERS,
            },
            "post": {
                **_open(
                    WEBHOOKS,
                    "receive",
                    "Take what a provider signed",
                    {
                        "200": response("Everything in it is durable."),
                        **problem_responses(
                            (
                                *_WEBHOOK_CODES,
                                "invalid_json",
                                "invalid_signature",
                                "body_too_slow",
                                "body_too_large",
                            )
                        ),
                    },
                ),
                "parameters": _PATH_PARAMETERS,
                "requestBody": {"content": {"application/json": {"schema": _OBJECT}}},
            },
        },
        "/health/live": _health(
            "live", "Tell whether the gateway lives", statuses={"200": "It lives."}
        ),
        "/health/ready": _health(
            "ready",
            "Tell whether the gateway is ready",
            statuses={"200": "It is ready.", "503": "It waits for what `down` names."},
        ),
    },
    {},
)


def guarded(part: Part) -> Part:
    """Return a service's part as the gateway lets it through, each operation with its scope."""
    paths: dict[str, dict[str, Any]] = {}
    for path, operations in part.paths.items():
        resource = path.removeprefix(PUBLIC_PREFIX).partition("/")[0]
        for method, operation in operations.items():
            found = access(method.upper(), resource)
            if found is not None:
                paths.setdefault(path, {})[method] = {
                    **operation,
                    "description": f"{operation['description']}\n\nScope: `{found.scope}`.".strip(),
                    "security": [{"api_key": [found.scope]}],
                }
    return Part(paths, part.schemas)
