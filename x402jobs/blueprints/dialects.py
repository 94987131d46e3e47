"""How each door words what is said (spec/wire.md): one vocabulary of events, two dialects."""

from collections.abc import Callable, Mapping
from typing import Any

from x402jobs.domain.errors import (
    ContextTooLong,
    EmptyAnswer,
    InvalidApiKey,
    LimitsUnavailable,
    ModelUnknown,
    NetworkError,
    Overloaded,
    RateLimited,
    StoreUnavailable,
    TimedOut,
    TooManyRequests,
    Truncated,
    Unavailable,
    X402JobsError,
)
from x402jobs.domain.events import Done, Ending, PromptWritten
from x402jobs.domain.execution import Execution, Kind

Said = str | PromptWritten | Ending
Dialect = Callable[[Said], Mapping[str, Any]]
"""How a door words a piece of text, or an ending."""

TASK_CODES: Mapping[type[X402JobsError], tuple[str, bool]] = {
    RateLimited: ("RATE_LIMIT", True),
    TooManyRequests: ("RATE_LIMIT", True),
    Overloaded: ("RATE_LIMIT", True),
    Unavailable: ("RATE_LIMIT", True),
    NetworkError: ("NETWORK_ERROR", True),
    Truncated: ("NETWORK_ERROR", True),
    EmptyAnswer: ("NETWORK_ERROR", True),
    StoreUnavailable: ("NETWORK_ERROR", True),
    LimitsUnavailable: ("NETWORK_ERROR", True),
    TimedOut: ("TIMEOUT", True),
    InvalidApiKey: ("INVALID_API_KEY", False),
    ContextTooLong: ("CONTEXT_LENGTH_EXCEEDED", False),
}
"""Seed 3's six codes, and whether trying again may help; what is not here is UNKNOWN."""
UNKNOWN = ("UNKNOWN", False)

TASK_SENTENCES: Mapping[type[X402JobsError], str] = {
    InvalidApiKey: (
        "Claude refused the API key. Store one that works: PUT /integrations/claude/config, "
        "or x402jobs integrations claude set."
    ),
    ContextTooLong: "The task and the tiles around it are too long for the model. Shorten them.",
    ModelUnknown: "Claude does not know this model. Ask for another one.",
}
"""Where the paid door speaks of a creator and a template, which a task does not have."""


def dialect_of(execution: Execution) -> Dialect:
    """The dialect of the door that the execution came in by."""
    return say_task if execution.kind is Kind.TASK else say_answer


def say_answer(event: Said) -> Mapping[str, Any]:
    """The words of the paid door."""
    if isinstance(event, str):
        return {"type": "text", "content": event}
    if isinstance(event, PromptWritten):
        raise ValueError("nobody is told a creator's prompt")
    execution = event.execution
    said: dict[str, Any]
    if isinstance(event, Done):
        said = {
            "type": "done",
            "usage": execution.usage,
            "model": execution.model,
            "stopReason": execution.stop_reason,
            "durationMs": execution.duration_ms,
            "executionId": execution.id,
        }
    else:
        said = {
            "type": "error",
            "message": event.error.message,
            "code": event.error.code,
            "recoverable": event.error.recoverable,
            "executionId": execution.id,
        }
    if execution.receipt is not None:
        said["receipt"] = execution.receipt.as_json()
    if execution.credit is not None:
        said["credit"] = execution.credit.as_json()
    return said


def say_task(event: Said) -> Mapping[str, Any]:
    """The words of the task door."""
    if isinstance(event, str):
        return {"type": "text_delta", "text": event}
    if isinstance(event, PromptWritten):
        return {"type": "prompt_generated", "prompt": event.prompt}
    execution = event.execution
    if isinstance(event, Done):
        return {
            "type": "done",
            "totalTokens": (execution.input_tokens or 0) + (execution.output_tokens or 0),
            "durationMs": execution.duration_ms,
            "executionId": execution.id,
        }
    code, recoverable = next(
        (TASK_CODES[kind] for kind in type(event.error).__mro__ if kind in TASK_CODES), UNKNOWN
    )
    return {
        "type": "error",
        "code": code,
        "message": _task_sentence(event.error),
        "recoverable": recoverable,
        "executionId": execution.id,
    }


def _task_sentence(error: X402JobsError) -> str:
    """The error's own sentence, where it is not the paid door's for every error of its kind."""
    if error.message != error.sentence:
        return error.message
    return TASK_SENTENCES.get(type(error), error.message)
