"""What each error of the Telegram Bot API means for a delivery.

Its code is no more than an HTTP status, so the description decides: by its prefix and a keyword,
because the rest of the sentence changes.
"""

from collections.abc import Mapping
from typing import NamedTuple

from services.connectors.base import SendError, Verdict

RETRY_AFTER_DEFAULT_S = 1.0
_TOO_MANY_REQUESTS = 429
_CONFIGURATION = (401, 404, 409, 421)


class Rule(NamedTuple):
    """The descriptions with this prefix and this keyword mean this."""

    prefix: str
    keyword: str
    verdict: Verdict
    code: str


RULES = (
    Rule("Unauthorized", "", Verdict.ACCOUNT, "unauthorized"),
    Rule("Not Found", "", Verdict.ACCOUNT, "not_found"),
    Rule("Conflict", "", Verdict.ACCOUNT, "conflict"),
    Rule("Misdirected Request", "", Verdict.ACCOUNT, "misdirected_request"),
    Rule("Too Many Requests", "", Verdict.THROTTLED, "too_many_requests"),
    Rule("Internal Server Error", "", Verdict.AMBIGUOUS, "internal_server_error"),
    Rule("Forbidden", "blocked by the user", Verdict.FINAL, "bot_blocked"),
    Rule("Forbidden", "deactivated", Verdict.FINAL, "user_deactivated"),
    Rule("Forbidden", "initiate conversation", Verdict.FINAL, "bot_not_started"),
    Rule("Forbidden", "kicked", Verdict.FINAL, "bot_kicked"),
    Rule("Forbidden", "not a member", Verdict.FINAL, "bot_not_a_member"),
    Rule("Forbidden", "", Verdict.FINAL, "forbidden"),
    Rule("Bad Request", "upgraded to a supergroup", Verdict.FINAL, "chat_migrated"),
    Rule("Bad Request", "chat not found", Verdict.FINAL, "chat_not_found"),
    Rule("Bad Request", "PEER_ID_INVALID", Verdict.FINAL, "chat_not_found"),
    Rule("Bad Request", "too long", Verdict.FINAL, "message_too_long"),
    Rule("Bad Request", "", Verdict.FINAL, "bad_request"),
)
"""The first rule that fits counts."""


def send_error(
    code: int,
    description: str,
    *,
    retry_after_s: float | None = None,
    migrated_to: int | None = None,
) -> SendError:
    """Return the value of an error; a description that no rule knows goes by the code."""
    rule = next((rule for rule in RULES if _fits(rule, description)), None)
    verdict = rule.verdict if rule is not None else _by_code(code)
    detail = description or "no detail"
    if migrated_to is not None:
        detail = f"The group became the supergroup {migrated_to}; write to that chat. ({detail})"
    if verdict is Verdict.THROTTLED:
        retry_after_s = RETRY_AFTER_DEFAULT_S if retry_after_s is None else retry_after_s
    return SendError(
        verdict=verdict,
        code=f"provider_{rule.code}" if rule is not None else f"provider_http_{code}",
        detail=detail,
        retry_after_s=retry_after_s if verdict is Verdict.THROTTLED else None,
    )


def unreadable(status: int, headers: Mapping[str, str]) -> SendError:
    """Return the value of an answer without an envelope: it may stand for anything but a 429."""
    if status == _TOO_MANY_REQUESTS:
        return send_error(status, "", retry_after_s=_seconds(headers.get("Retry-After")))
    return SendError(
        verdict=Verdict.AMBIGUOUS,
        code=f"provider_http_{status}",
        detail=f"The provider's answer of {status} cannot be read.",
    )


def _fits(rule: Rule, description: str) -> bool:
    return description.startswith(rule.prefix) and rule.keyword in description


def _by_code(code: int) -> Verdict:
    if code == _TOO_MANY_REQUESTS:
        return Verdict.THROTTLED
    if code in _CONFIGURATION:
        return Verdict.ACCOUNT
    return Verdict.FINAL if 400 <= code < 500 else Verdict.AMBIGUOUS  # noqa: PLR2004


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
