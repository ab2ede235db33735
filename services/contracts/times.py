"""Times as the API writes them."""

from datetime import UTC, datetime


def rfc3339(time: datetime) -> str:
    """Return a time as the API writes it: UTC with milliseconds."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
