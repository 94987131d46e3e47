"""What Claude's API says to one call, and when: pure values, no sockets.

The events and their order follow the Messages API's streaming page; the error types follow its
errors page. Everything is a function of the call and its script, so a test can know every byte
before it is sent.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from x402jobs.devkit.claude_script import Script

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STATUSES = {error_type: status for status, error_type in ERROR_TYPES.items()}

EXAMPLE_CALL: Mapping[str, Any] = {
    "model": "claude-simulated",
    "max_tokens": 1024,
    "messages": [{"role": "user", "content": "Write a haiku about rain"}],
    "stream": True,
}

SIMULATED_MODEL: Mapping[str, Any] = {
    "type": "model",
    "id": "claude-simulated",
    "display_name": "Simulated Claude",
    "created_at": "2025-01-01T00:00:00Z",
}


@dataclass(frozen=True)
class Step:
    """Body bytes that go out together, after ``pause`` seconds of silence."""

    data: bytes
    pause: float = 0


@dataclass(frozen=True)
class Reply:
    """One response: silence, headers, body. ``dropped`` leaves the body without its end."""

    status: int
    headers: Mapping[str, str]
    steps: tuple[Step, ...]
    silence: float = 0
    dropped: bool = False


@dataclass(frozen=True)
class _Answer:
    """The message a script asks for, before anything goes wrong with it."""

    script: Script
    call: Mapping[str, Any]

    @cached_property
    def text(self) -> str:
        return simulated_text(self.call) if self.script.text is None else self.script.text

    @cached_property
    def usage(self) -> dict[str, Any]:
        words = [self.call.get("system")]
        words += [message.get("content") for message in self.call["messages"]]
        return {
            "input_tokens": _tokens("".join(map(_plain, words))),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": _tokens(self.text),
        }

    def message(self, **ending: Any) -> dict[str, Any]:
        return {
            "model": self.call["model"],
            "id": _identifier("msg", self.call),
            "type": "message",
            "role": "assistant",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            **ending,
        }


def compose(script: Script, call: Mapping[str, Any], delta_ms: float) -> Reply:
    """The reply to a well-formed ``call``; ``delta_ms`` is its pace unless the script has one."""
    pace = (delta_ms if script.delta_ms is None else script.delta_ms) / 1000
    answer = _Answer(script, call)
    if call.get("stream") and script.status < 400:
        reply = _streamed(answer, pace)
    else:
        reply = _at_once(answer, pace)
        reply = replace(reply, silence=reply.silence + script.stall_seconds)
    return _dressed(reply, script)


def compose_models(script: Script) -> Reply:
    """The reply to a well-formed question for the list of models; a script's words do not count."""
    reply = _refused(script, about="models") or json_reply(
        {
            "data": [SIMULATED_MODEL],
            "has_more": False,
            "first_id": SIMULATED_MODEL["id"],
            "last_id": SIMULATED_MODEL["id"],
        },
        headers={"request-id": _identifier("req", "models")},
    )
    return _dressed(replace(reply, silence=script.stall_seconds), script)


def recorded_stream(
    text: str | None = None,
    call: Mapping[str, Any] = EXAMPLE_CALL,
    *,
    stop_reason: str = "end_turn",
    usage: Mapping[str, Any] | None = None,
) -> bytes:
    """The body of a stream in which nothing goes wrong, byte for byte as the server sends it.

    ``text`` None is the ordinary answer. ``message_start`` carries a model, an id and a token count
    made from ``call``: to know the bytes of a real call, pass the very JSON that is posted.
    """
    script = Script(text=text, stop_reason=stop_reason, usage=usage or {})
    return b"".join(step.data for step in compose(script, {**call, "stream": True}, 0).steps)


def refuse(
    status: int,
    message: str | None = None,
    *,
    error_type: str | None = None,
    about: object = None,
) -> Reply:
    """Claude's error JSON, its type read off the status unless given."""
    error = _error(error_type or ERROR_TYPES.get(status, "api_error"), message, about)
    return json_reply(error, status=status, headers={"request-id": error["request_id"]})


def json_reply(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Reply:
    """A reply that is one JSON value."""
    headers = {"content-type": "application/json", **(headers or {})}
    return Reply(status, headers, (Step(_json(value)),))


def objection(call: object) -> str | None:
    """What Claude would find wrong with the shape of a request; None when it would answer."""
    if not isinstance(call, dict):
        return "request: a JSON object is required"
    if not isinstance(call.get("model"), str) or not call["model"]:
        return "model: a model name is required"
    if type(call.get("max_tokens")) is not int or call["max_tokens"] < 1:
        return "max_tokens: a whole number, 1 or more, is required"
    messages = call.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            return f"messages.{place}: a role and content are required"
    return None


def simulated_text(call: Mapping[str, Any]) -> str:
    """An answer of some seventy words that says what it is, the same whenever the call is the same.

    It quotes the last words of the system prompt, else of the last user turn, never more than four,
    forty letters or half of them: a paid template must not be readable in its own answer.
    """
    asked = [message["content"] for message in call["messages"] if message.get("role") == "user"]
    prompt = _plain(call.get("system")) or _plain(asked[-1] if asked else "")
    words = re.findall(r"[^\W_]+", prompt)
    quoted = " ".join(words[len(words) - min(4, len(words) // 2) :])[-40:].strip()
    ending = f", “{quoted}”" if quoted else ""
    return (
        "This is a simulated answer: a stand-in for Claude wrote it on this machine, and no model "
        f"was asked. Your prompt was read to its end{ending}.\n\n"
        "The real Claude would take that up in earnest; this one only keeps the rhythm, word by "
        "word, so that you can watch an answer arrive. The same prompt always gets the same words "
        "back. Connect a real key, and the real answer appears in this place."
    )


def deltas(text: str) -> list[str]:
    """``text`` in the pieces it is sent in: a word and the space before it; long words in parts."""
    return re.findall(r"\s*\S{1,12}|\s+", text)


def _streamed(answer: _Answer, pace: float) -> Reply:
    script, pieces = answer.script, deltas(answer.text)
    steps = [Step(event) for event in _opening(answer)]
    steps += [Step(_event("content_block_delta", index=0, delta=_delta(p)), pace) for p in pieces]
    steps += [Step(event) for event in _closing(answer)]

    reached = min(script.after_deltas, len(pieces))
    # Step 0 is message_start; steps 1 and 2 open the content block and ping.
    turn = reached + 3 if reached > 0 else 1
    if script.error_event:
        steps[turn:] = [Step(_event(**_error(script.error_event, about=answer.call)))]
    silence = 0.0
    if script.after_deltas < 0:
        silence = script.stall_seconds
    else:
        steps[turn] = replace(steps[turn], pause=steps[turn].pause + script.stall_seconds)

    headers = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        "request-id": _identifier("req", answer.call),
    }
    return Reply(script.status, headers, tuple(steps), silence)


def _opening(answer: _Answer) -> Iterator[bytes]:
    start = answer.message(usage={**answer.usage, "output_tokens": 1})
    yield _event("message_start", message=start)
    if answer.text:
        yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield _event("ping")


def _closing(answer: _Answer) -> Iterator[bytes]:
    if answer.text:
        yield _event("content_block_stop", index=0)
    delta = {"stop_reason": answer.script.stop_reason, "stop_sequence": None}
    yield _event("message_delta", delta=delta, usage={**answer.usage, **answer.script.usage})
    yield _event("message_stop")


def _at_once(answer: _Answer, pace: float) -> Reply:
    """One JSON value: an error, or the message after as long as it would have taken to stream."""
    script, call, text = answer.script, answer.call, answer.text
    if refusal := _refused(script, about=call):
        return refusal
    message = answer.message(
        content=[{"type": "text", "text": text}] if text else [],
        stop_reason=script.stop_reason,
        usage={**answer.usage, **script.usage},
    )
    reply = json_reply(message, headers={"request-id": _identifier("req", call)})
    return replace(reply, silence=pace * len(deltas(text)))


def _refused(script: Script, about: object) -> Reply | None:
    """The error a script asks for, where it can only be a status."""
    if script.status >= 400:
        return refuse(script.status, script.text, error_type=script.error_event, about=about)
    if script.error_event:
        status = _STATUSES.get(script.error_event, 500)
        return refuse(status, error_type=script.error_event, about=about)
    return None


def _dressed(reply: Reply, script: Script) -> Reply:
    return _cut(replace(reply, headers={**reply.headers, **_lowered(script.headers)}), script)


def _cut(reply: Reply, script: Script) -> Reply:
    length = sum(len(step.data) for step in reply.steps)
    if script.cut_at_byte is None or script.cut_at_byte > length:
        return reply
    steps = tuple(_first_bytes(reply.steps, script.cut_at_byte))
    return replace(reply, steps=steps, dropped=not script.clean)


def _first_bytes(steps: Iterable[Step], count: int) -> Iterator[Step]:
    for step in steps:
        if count <= 0:
            return
        yield replace(step, data=step.data[:count])
        count -= len(step.data)


def _event(type: str, **fields: object) -> bytes:
    return f"event: {type}\ndata: ".encode() + _json({"type": type, **fields}) + b"\n\n"


def _delta(piece: str) -> dict[str, str]:
    return {"type": "text_delta", "text": piece}


def _error(error_type: str, message: str | None = None, about: object = None) -> dict[str, Any]:
    error = {"type": error_type, "message": message or f"Simulated {error_type}"}
    return {"type": "error", "error": error, "request_id": _identifier("req", about)}


def _identifier(prefix: str, call: object) -> str:
    """The same call always has the same id: see the module docstring."""
    digest = hashlib.sha256(json.dumps(call, sort_keys=True).encode()).hexdigest()
    return f"{prefix}_01{digest[:22]}"


def _plain(content: object) -> str:
    """The words in a ``content`` or ``system`` value, which may be a string or a list of blocks."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    texts = [block.get("text") for block in blocks if isinstance(block, dict)]
    return " ".join(text for text in texts if isinstance(text, str))


def _tokens(text: str) -> int:
    return max(1, round(len(text) / 4))


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _json(value: object) -> bytes:
    """Compact and in UTF-8 like Claude's, so that a cut can fall inside a character."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
