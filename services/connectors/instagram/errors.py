"""What each error code of Instagram Messaging means for a delivery.

Code and subcode decide, never the HTTP status: one error was seen with three of them.
"""

from collections.abc import Mapping

from services.connectors.base import SendError, Verdict

RETRY_AFTER_DEFAULT_S = 4.0
RETRY_AFTER_MAX_S = 3600.0
NO_SUBCODE = 0
OUTSIDE_WINDOW = (10, 2534022)
RESTRICTED = (10, 1893063)
ACCESS_REVOKED = (200, 2534041)
_AUTHENTICATION = (0, 190)
_PERMISSION = (3, *range(201, 300), 368)
_THROTTLE = (4, 17, 32, 613, 80002, 80006)
_FINAL = (10, 100, 200, 551, 36000)

VERDICTS: Mapping[tuple[int, int | None], Verdict] = {
    **{(code, None): Verdict.ACCOUNT for code in _AUTHENTICATION + _PERMISSION},
    **{(code, None): Verdict.THROTTLED for code in _THROTTLE},
    **{(code, None): Verdict.FINAL for code in _FINAL},
    # Reported although the message was sent, with subcode 1357046 and perhaps with others.
    (1, None): Verdict.AMBIGUOUS,
    (2, None): Verdict.RETRYABLE,
    # Without a subcode the app lacks a permission; with one it is about this message.
    (10, NO_SUBCODE): Verdict.ACCOUNT,
    (200, NO_SUBCODE): Verdict.ACCOUNT,
    OUTSIDE_WINDOW: Verdict.FINAL,
    # Whether the whole account or one conversation is restricted is not documented. Waiting would
    # stop an account for one conversation, and knock on a restricted account's door all the time.
    RESTRICTED: Verdict.FINAL,
    # The account's owner took our access back and can return it; until then nobody is reached.
    ACCESS_REVOKED: Verdict.ACCOUNT,
}
"""One verdict for each documented code and subcode; None stands for all other subcodes."""


def send_error(
    status: int, code: int | None, subcode: int | None, detail: str, headers: Mapping[str, str]
) -> SendError:
    """Return the value of an error answer; one without a known code goes by its HTTP status."""
    verdict = _by_code(code, subcode) or _by_status(status)
    retry_after_s = None
    if verdict is Verdict.THROTTLED:
        retry_after_s = _seconds(headers.get("Retry-After")) or RETRY_AFTER_DEFAULT_S
    return SendError(
        verdict=verdict,
        code=_name(status, code, subcode),
        detail=detail or "no detail",
        retry_after_s=retry_after_s,
        whole_account=verdict is Verdict.THROTTLED,
    )


def _by_code(code: int | None, subcode: int | None) -> Verdict | None:
    if code is None:
        return None
    return VERDICTS.get((code, subcode or NO_SUBCODE)) or VERDICTS.get((code, None))


def _by_status(status: int) -> Verdict:
    if status == 429:  # noqa: PLR2004 - too many requests
        return Verdict.THROTTLED
    if status in (401, 403):
        return Verdict.ACCOUNT
    return Verdict.FINAL if 400 <= status < 500 else Verdict.AMBIGUOUS  # noqa: PLR2004


def _name(status: int, code: int | None, subcode: int | None) -> str:
    if code is None:
        return f"provider_http_{status}"
    return f"provider_{code}_{subcode}" if subcode else f"provider_{code}"


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, min(float(text), RETRY_AFTER_MAX_S)) if text else None
    except ValueError:
        return None
