"""What went wrong with Claude, in our words: spec/wire.md, Codes.

Sorted by exception class, HTTP status and Claude's `error.type`. Messages are not read, because
they change and because numbers in them look like statuses; there is one exception, below.
"""

import math
import time
from calendar import timegm
from email.utils import parsedate
from http.client import HTTPException

import anthropic
import structlog

from x402jobs.domain.errors import (
    ContextTooLong,
    InvalidApiKey,
    ModelError,
    ModelUnknown,
    NetworkError,
    Overloaded,
    RateLimited,
    TimedOut,
    Truncated,
)

_log = structlog.get_logger(__name__)

MAX_RETRY_AFTER = 3600.0

_BY_STATUS: dict[int | None, type[ModelError]] = {
    401: InvalidApiKey,
    403: InvalidApiKey,
    404: ModelUnknown,
    408: TimedOut,
    409: Overloaded,
    413: ContextTooLong,
    429: RateLimited,
    504: TimedOut,
    529: Overloaded,
}
_BY_TYPE: dict[object, type[ModelError]] = {
    "api_error": Overloaded,
    "authentication_error": InvalidApiKey,
    "billing_error": InvalidApiKey,
    "conflict_error": Overloaded,
    "not_found_error": ModelUnknown,
    "overloaded_error": Overloaded,
    "permission_error": InvalidApiKey,
    "rate_limit_error": RateLimited,
    "request_too_large": ContextTooLong,
    "timeout_error": TimedOut,
}
_TOO_LONG = ("prompt is too long", "input length and")
"""How Claude's 400 begins when a prompt does not fit. It has no type of its own for this."""


def refusal(
    status: int | None, kind: object, message: object, retry_after: str | None = None
) -> ModelError:
    """Claude's refusal as an error of ours.

    `status` is None for an error event in the middle of a stream, which only has its type.
    """
    fault = _BY_STATUS.get(status) or (_BY_TYPE.get(kind) if isinstance(kind, str) else None)
    if fault is None and status in (None, 400):
        if isinstance(message, str) and message.startswith(_TOO_LONG):
            fault = ContextTooLong
    if fault is None:
        fault = Overloaded if status is not None and status >= 500 else ModelError
    if fault in (RateLimited, Overloaded):
        return fault(retry_after=seconds(retry_after))
    return fault()


def seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header: seconds or an HTTP date, at most an hour. None for garbage."""
    try:
        wait = float(retry_after or "")
    except ValueError:
        date = parsedate(retry_after)
        wait = timegm(date) - time.time() if date else math.nan  # HTTP dates are always GMT
    return min(max(wait, 0.0), MAX_RETRY_AFTER) if math.isfinite(wait) else None


def translate(error: Exception, *, answering: bool) -> ModelError:
    """Any exception of a call as an error of ours, which does not refer to it.

    The package's exceptions hold the request, with the key and the prompt. `answering` says
    whether Claude's headers had come, so that a broken connection is a broken answer.
    """
    match error:
        case ModelError():
            return error
        case anthropic.APIStatusError():
            retry_after = error.response.headers.get("retry-after")
            return refusal(error.status_code, error.type, error.api_message, retry_after)
        case anthropic.APITimeoutError() | TimeoutError():
            return TimedOut()
        case HTTPException() if answering:
            return Truncated()
        case OSError() | HTTPException():
            return NetworkError()
        case anthropic.APIConnectionError(__cause__=Exception() as cause):
            return translate(cause, answering=answering)
    # An answer that nobody could read, or a fault of ours. Its message may quote anything.
    _log.warning("claude_not_understood", exception_type=type(error).__name__)
    return ModelError()
