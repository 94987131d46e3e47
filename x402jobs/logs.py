"""Logs: one JSON object a line, allow-listed fields only."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

FIELDS = frozenset(
    {
        "event", "level", "timestamp", "logger", "request_id", "execution_id", "kind", "state",
        "code", "status", "model", "duration_ms", "reason", "exception_type", "exception_place",
        "function", "check", "form", "outcome", "deltas", "characters", "first_event_ms",
    }
)  # fmt: skip
"""Everything a line may contain: ids, states, codes, numbers. Never a key, a prompt, an answer."""

VENDORS = (
    *("anthropic", "hpack", "httpcore", "httpcore2", "httpx", "httpx2", "postgrest", "psycopg"),
    *("supabase", "web3", "x402"),
)
"""Whose own loggers there are."""

Event = MutableMapping[str, Any]


def configure_logs(level: str) -> None:
    """Send our own lines to standard error; vendors' loggers are not listened to below WARNING.

    The anthropic package logs whole requests at DEBUG. What a vendor does say is reduced to who
    said it: its text could quote a key.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _place_exception,
            _allow_listed,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [
        each for each in root.handlers if not isinstance(each.formatter, _Formatter)
    ]
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("x402jobs").setLevel(level)
    for vendor in VENDORS:
        logging.getLogger(vendor).setLevel(logging.WARNING)
    logging.getLogger("gunicorn.error").addFilter(_quote_no_request)


def begin_request(request_id: str) -> None:
    """Every line of this thread or greenlet is this request's from here on.

    What an earlier one of the same connection has left is forgotten.
    """
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)


def name_execution(execution_id: str) -> None:
    """And about this execution."""
    structlog.contextvars.bind_contextvars(execution_id=execution_id)


class _Formatter(logging.Formatter):
    """Our lines as they are; a vendor's only by name and level."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name.split(".")[0] == "x402jobs":
            return record.getMessage()
        event = {"event": "vendor_log", "logger": record.name, "level": record.levelname.lower()}
        ids = structlog.contextvars.get_contextvars()
        return str(structlog.processors.JSONRenderer()(None, "", event | ids))


def _quote_no_request(record: logging.LogRecord) -> bool:
    """gunicorn writes down a request it cannot read, payment header and all: only that it did."""
    for begins in ("Invalid request", "Error handling request", "Socket error"):
        if isinstance(record.msg, str) and record.msg.startswith(begins):
            kind = record.exc_info[0] if record.exc_info else None
            record.msg, record.args = f"{begins}: {kind.__name__ if kind else 'malformed'}", ()
            record.exc_info = None
    return True


def _place_exception(_: Any, __: str, event: Event) -> Event:
    """An exception is logged by its kind and the line it came from; its text could quote a key."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["exception_type"] = type(error).__name__
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is not None:
            code = trace.tb_frame.f_code
            event["exception_place"] = f"{code.co_filename}:{trace.tb_lineno} {code.co_name}"
    return event


def _allow_listed(_: Any, __: str, event: Event) -> Event:
    return {name: value for name, value in event.items() if name in FIELDS}
