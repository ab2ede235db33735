"""What each error code of the WhatsApp Cloud API means for a delivery.

The code decides, never the HTTP status: the provider's own table and what is observed disagree.
"""

from collections.abc import Mapping

from services.connectors.base import SendError, Verdict

RETRY_AFTER_DEFAULT_S = 4.0
_AUTHENTICATION = (0, 190)
_PERMISSION = (3, 10, *range(200, 300), 368, 131005, 131031, 131042, 131045, 133010, 133016)
_ACCOUNT_THROTTLE = (4, 80007, 130429, 131048)
_THROTTLE = (*_ACCOUNT_THROTTLE, 131056)
_SERVICE = (2, 131016, 131053, 131057)
_MAYBE_PROCESSED = (1, 131000)
_FINAL = (
    *(33, 100, 130472, 131008, 131009, 131021, 131026, 131047, 131049, 131051, 131052),
    *(132000, 132001, 132005, 132007, 132012, 132015, 132016),
)

VERDICTS: Mapping[int, Verdict] = {
    **dict.fromkeys(_AUTHENTICATION, Verdict.ACCOUNT),
    **dict.fromkeys(_PERMISSION, Verdict.ACCOUNT),
    **dict.fromkeys(_THROTTLE, Verdict.THROTTLED),
    **dict.fromkeys(_SERVICE, Verdict.RETRYABLE),
    **dict.fromkeys(_MAYBE_PROCESSED, Verdict.AMBIGUOUS),
    **dict.fromkeys(_FINAL, Verdict.FINAL),
}
"""One verdict for each documented code."""


def send_error(status: int, code: int | None, detail: str, headers: Mapping[str, str]) -> SendError:
    """Return the value of an error answer; one without a known code goes by its HTTP status."""
    verdict = _by_status(status) if code is None else VERDICTS.get(code, _by_status(status))
    retry_after_s = None
    if verdict is Verdict.THROTTLED:
        retry_after_s = _seconds(headers.get("Retry-After")) or RETRY_AFTER_DEFAULT_S
    name = f"provider_{code}" if code is not None else f"provider_http_{status}"
    return SendError(
        verdict=verdict,
        code=name,
        detail=detail or "no detail",
        retry_after_s=retry_after_s,
        whole_account=code in _ACCOUNT_THROTTLE,
    )


def _by_status(status: int) -> Verdict:
    if status == 429:  # noqa: PLR2004 - too many requests
        return Verdict.THROTTLED
    if status in (401, 403):
        return Verdict.ACCOUNT
    return Verdict.FINAL if 400 <= status < 500 else Verdict.AMBIGUOUS  # noqa: PLR2004


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
