"""What the stand-in Claude is told to do with one call.

A script is a JSON object. Every field may be left out; ``{}`` is the ordinary answer.

``text``          the answer; ``""`` is an answer without any content block. With an error
                  ``status`` it is the error's message instead.
``status``        200, or an error status: answered at once with Claude's error JSON.
``headers``       response headers to add, such as ``{"retry-after": "3"}``.
``errorEvent``    an error type, such as ``overloaded_error``. Beside an error ``status`` it
                  replaces the type that status implies. Alone, it is an ``error`` event after
                  ``afterDeltas`` deltas, and the stream ends there, properly terminated. (Asked
                  without ``stream``, Claude has no events: it becomes that type's own status.)
``afterDeltas``   where ``errorEvent`` and ``stallSeconds`` strike: after this many text deltas, or
                  after the last one if there are fewer. 0, the default, is after ``message_start``
                  and before any content. -1 is before the response headers (an error event, which
                  cannot be there, then comes as for 0).
``stallSeconds``  silence of this length, once; afterwards the answer goes on. A reply that is not a
                  stream has only one place for it: before the headers.
``cutAtByte``     the body ends after exactly this many bytes; headers and chunk framing are not
                  counted. A cut beyond the end never happens.
``clean``         how a cut body ends: true is a proper last chunk, so only the missing
                  ``message_stop`` tells; false, the default, is a connection dropped without one.
``deltaMs``       milliseconds before each text delta; 0 is as fast as the socket takes them.
``stopReason``    ``end_turn`` unless said otherwise.
``usage``         laid over the computed usage in ``message_delta``.

A question for the list of models takes its script from the same queue. Of a script without an error
it heeds what concerns the body's bytes, the headers and ``stallSeconds``.

When a stall and an error event strike together, the stall comes first. Bytes a cut removes never
happen, and neither does a stall among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class ScriptError(ValueError):
    """Not a script; the message names the field and what it should have been."""


@dataclass(frozen=True)
class Script:
    """One call's instructions, checked. The module docstring gives each field's meaning."""

    text: str | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    error_event: str | None = None
    after_deltas: int = 0
    cut_at_byte: int | None = None
    clean: bool = False
    stall_seconds: float = 0
    delta_ms: float | None = None
    stop_reason: str = "end_turn"
    usage: Mapping[str, Any] = field(default_factory=dict)


def read_scripts(value: object) -> list[Script]:
    """The scripts in a JSON list, all of them or none: a ``ScriptError`` counts from script 1."""
    if not isinstance(value, list):
        raise ScriptError("scripts must be a JSON list")
    return [_read(number, script) for number, script in enumerate(value, start=1)]


def _read(number: int, value: object) -> Script:
    if not isinstance(value, dict):
        raise ScriptError(f"script {number}: must be a JSON object")
    for key, setting in value.items():
        if key not in _RULES:
            raise ScriptError(f"script {number}: unknown key {key!r}")
        fits, meaning = _RULES[key]
        if not fits(setting):
            raise ScriptError(f"script {number}: {key} must be {meaning}")
    return Script(**{_field_name(key): setting for key, setting in value.items()})


def _field_name(key: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", key)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_whole(value: object) -> bool:
    return type(value) is int  # JSON's true is not a number, though Python's is


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _is_header(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, str)
        and re.fullmatch(r"[A-Za-z0-9-]+", name) is not None
        and re.fullmatch(r"[ -~]*", value) is not None
        and name.lower() not in ("content-length", "transfer-encoding")  # ours: they frame the body
    )


_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "text": (_is_text, "a string"),
    "status": (
        lambda value: _is_whole(value) and (value == 200 or 400 <= value <= 599),
        "200 or a whole number from 400 to 599",
    ),
    "headers": (
        lambda value: isinstance(value, dict) and all(_is_header(*pair) for pair in value.items()),
        "an object of header names and ASCII strings, none of which frames the body",
    ),
    "errorEvent": (_is_name, "an error type"),
    "afterDeltas": (
        lambda value: _is_whole(value) and value >= -1,
        "a whole number, -1 or more",
    ),
    "cutAtByte": (lambda value: _is_whole(value) and value >= 0, "a whole number, 0 or more"),
    "clean": (lambda value: isinstance(value, bool), "true or false"),
    "stallSeconds": (_is_duration, "a number of seconds, 0 or more"),
    "deltaMs": (_is_duration, "a number of milliseconds, 0 or more"),
    "stopReason": (_is_name, "a stop reason"),
    "usage": (lambda value: isinstance(value, dict), "an object"),
}
