"""W3C trace context."""

import pytest

from services.runtime.telemetry import trace

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_trace_goes_on_in_a_new_span() -> None:
    """What a caller began keeps its trace id; the span is ours."""
    found = trace.proceed(GIVEN)
    assert found.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert found.span_id != "b7ad6b7169203331"
    assert trace.proceed(found.header).trace_id == found.trace_id


@pytest.mark.parametrize(
    "header", [None, "", "00-" + "0" * 32 + "-b7ad6b7169203331-01", GIVEN.upper(), GIVEN + "-x"]
)
def test_a_header_that_is_none_starts_a_trace(header: str | None) -> None:
    """A missing or malformed header is no trace of anybody's."""
    assert trace.proceed(header).trace_id != "0af7651916cd43dd8448eb211c80319c"
