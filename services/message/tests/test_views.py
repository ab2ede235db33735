"""What the API shows of a channel."""

from datetime import UTC, datetime

import msgspec

from services.contracts.channels import (
    AccountError,
    AccountState,
    AccountStatus,
    Capabilities,
    ChannelState,
    Quota,
)
from services.contracts.status import Status
from services.message.views import channel_view

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_a_channel_shows_what_it_can_its_quota_and_its_last_error() -> None:
    """State, receipts, limits and what went wrong last, for each account by itself."""
    trouble = AccountError(at=NOON, code="131016", detail="Service unavailable.")
    good = AccountState(status=AccountStatus.ENABLED, checked_at=NOON)
    state = ChannelState(
        channel="CHANNEL",
        capabilities=Capabilities(receipts=(Status.SENT,), text_length_max=4096),
        accounts={"second": good, "main": msgspec.structs.replace(good, last_error=trouble)},
        quota=Quota(
            profile="real",
            account_per_s=30,
            account_burst=30,
            recipient_interval_s=1.5,
            recipient_burst=3,
        ),
    )
    shown = msgspec.to_builtins(channel_view(state, enabled=True))
    assert (shown["channel"], shown["enabled"]) == ("CHANNEL", True)
    assert shown["capabilities"] == {"receipts": ["SENT"], "text_length_max": 4096}
    assert shown["quota"] == {
        "profile": "real",
        "account_per_s": 30,
        "account_burst": 30,
        "recipient_interval_s": 1.5,
        "recipient_burst": 3,
    }
    main, second = shown["accounts"]
    assert (main["account"], main["status"]) == ("main", "ENABLED")
    assert main["last_error"] == {
        "at": "2026-01-02T12:00:00.000Z",
        "code": "131016",
        "detail": "Service unavailable.",
    }
    assert (second["account"], second["last_error"]) == ("second", None)
