"""JSON log lines on standard output: key-value events, ids instead of contents."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

from services.runtime.telemetry import trace

SAME_WARNING_S = 1.0
KINDS_MAX = 1000


def _add_trace(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    context = trace.current.get()
    if context is not None:
        event["trace_id"] = context.trace_id
        event["span_id"] = context.span_id
    return event


class _Forward(logging.Handler):
    """Carries warnings of libraries into the same stream, each of its kind once a second."""

    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self._said_at: dict[tuple[str, str], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        kind = (record.name, str(record.msg)[:100])
        if record.created < self._said_at.get(kind, 0.0) + SAME_WARNING_S:
            return
        if len(self._said_at) >= KINDS_MAX:
            self._said_at.clear()
        self._said_at[kind] = record.created
        log(record.name).log(record.levelno, "library_warning", detail=record.getMessage()[:500])


def configure(service: str, instance: str) -> None:
    """Send every log line of this process to standard output as one JSON object."""
    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_trace,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(serializer=_dump),
        ],
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
    )
    structlog.contextvars.bind_contextvars(service=service, instance=instance)
    root = logging.getLogger()
    root.handlers = [_Forward()]


def _dump(event: dict[str, Any], default: Any = None, **_options: Any) -> bytes:  # noqa: ARG001
    return orjson.dumps(event, default=str)


def log(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of one module."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(module=name)
    return logger
