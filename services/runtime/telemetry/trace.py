"""W3C trace context: made at the gateway, carried through HTTP and Kafka headers."""

import re
from contextvars import ContextVar
from random import getrandbits

from msgspec import Struct

HEADER = "traceparent"
SAMPLED_ENDINGS = tuple(f"{number:02x}" for number in range(5))
"""One trace in about fifty: a line for every request would cost more than the request."""
_FORM = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


class TraceContext(Struct, frozen=True):
    """Where in which trace the work at hand belongs."""

    trace_id: str
    span_id: str
    flags: str = "01"

    @property
    def sampled(self) -> bool:
        """Whether what went well is logged too: the same for a trace in every process."""
        return self.trace_id.endswith(SAMPLED_ENDINGS)

    @property
    def header(self) -> str:
        """The value of a `traceparent` header."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


current: ContextVar[TraceContext | None] = ContextVar("trace", default=None)
"""The trace context of the running task."""


def start() -> TraceContext:
    """Return the root of a new trace."""
    return TraceContext(f"{getrandbits(128):032x}", _new_span_id())


def proceed(header: str | None) -> TraceContext:
    """Return a new span below the one a header names; a new trace when it names none."""
    found = _FORM.fullmatch(header) if header else None
    if found is None:
        return start()
    return TraceContext(found[1], _new_span_id(), found[3])


def header() -> str:
    """Return the `traceparent` of the running task, starting a trace when there is none."""
    return (current.get() or start()).header


def _new_span_id() -> str:
    # Nothing is guarded by it: it need not come from the system's own source, which costs a call.
    return f"{getrandbits(64):016x}"
