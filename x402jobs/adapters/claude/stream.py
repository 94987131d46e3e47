"""Claude's stream of events, from bytes to an answer. No I/O.

Source: the Messages API's streaming page, and the WHATWG event stream it is written in. The
package's own decoder builds objects and a growing snapshot for every delta; a relay needs the text
alone, and spends its time here.
"""

from collections.abc import Iterator
from typing import Any

import jiter

from x402jobs.adapters.claude.faults import refusal
from x402jobs.domain.errors import ContextTooLong, EmptyAnswer, ModelError, Truncated

MAX_EVENT_BYTES = 1024 * 1024
MAX_ANSWER_CHARACTERS = 1024 * 1024


class EventStream:
    """Cuts bytes into events, however they come, and keeps only their data.

    Lines end with LF or CRLF. Names, ids and comments are passed over: Claude repeats the event's
    name inside its data. An event without its blank line has not happened.
    """

    def __init__(self) -> None:
        self._rest = bytearray()  # of a line whose end has not come
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of each event that `chunk` completes.

        Raises ModelError for one over `MAX_EVENT_BYTES`.
        """
        if b"\n" not in chunk:  # appended, not searched again: a long line must not cost its square
            self._rest += chunk
        else:
            lines = chunk.split(b"\n")
            if self._rest:
                lines[0] = bytes(self._rest) + lines[0]
            self._rest = bytearray(lines.pop())
            for line in lines:
                if self._size + len(line) > MAX_EVENT_BYTES:
                    raise ModelError()
                if line.endswith(b"\r"):
                    line = line[:-1]
                if line.startswith(b"data:"):
                    self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
                    self._size += len(line)
                elif not line:
                    if self._data:
                        yield b"\n".join(self._data)
                    self._data, self._size = [], 0
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise ModelError()


class Answer:
    """What Claude has told about its answer so far, and how it ended: `ended` or `failure`.

    The text itself is handed out and not kept.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.usage: dict[str, object] = {}
        self.stop_reason: str | None = None
        self.ended = False
        self.failure: ModelError | None = None
        self._events = EventStream()
        self._length = 0

    @property
    def over(self) -> bool:
        """Whether nothing that is still to come can change anything."""
        return self.ended or self.failure is not None

    def feed(self, chunk: bytes) -> list[str]:
        """The texts in `chunk`, none of them empty; those before a failure come out first."""
        texts: list[str] = []
        try:
            for data in self._events.feed(chunk):
                if text := self._hear(data):
                    texts.append(text)
                if self.over:
                    break
        except ModelError as failure:
            self.failure = failure
        return texts

    def finish(self) -> None:
        """The body has ended: well only if Claude's end marker was in it.

        The package's own streams end without an exception here.
        """
        if not self.over:
            self.failure = Truncated()

    def _hear(self, data: bytes) -> str:
        """Take in one event and give its text, if it has any."""
        event = _read(data)
        match event.get("type"):
            case "content_block_delta":
                return self._text(_object(event, "delta"))
            case "message_start":
                message = _object(event, "message")
                if isinstance(model := message.get("model"), str):
                    self.model = model
                self._count(message)
            case "message_delta":
                if isinstance(reason := _object(event, "delta").get("stop_reason"), str):
                    self.stop_reason = reason
                self._count(event)
            case "message_stop":
                self._stop()
            case "error":
                error = _object(event, "error")
                self.failure = refusal(None, error.get("type"), error.get("message"))
            # Anything else is a ping, a block's edges, or newer than this file.
        return ""

    def _text(self, delta: dict[str, Any]) -> str:
        if delta.get("type") != "text_delta":
            return ""
        text = delta.get("text")
        if not isinstance(text, str):
            raise ModelError()
        self._length += len(text)
        if self._length > MAX_ANSWER_CHARACTERS:
            raise ModelError()
        return text

    def _count(self, source: dict[str, Any]) -> None:
        """Totals, not increments: a later number replaces an earlier one, a null does not."""
        if isinstance(usage := source.get("usage"), dict):
            self.usage.update({name: value for name, value in usage.items() if value is not None})

    def _stop(self) -> None:
        if self._length:
            self.ended = True
        elif self.stop_reason == "model_context_window_exceeded":
            self.failure = ContextTooLong()
        else:
            self.failure = EmptyAnswer()


def _read(data: bytes) -> dict[str, Any]:
    """One event.

    With jiter, which the anthropic package brings and reads everything else with. The standard
    library's reader takes four times as long, and a deep enough nesting would end the process: some
    packages (py_ecc, below eth-account) raise Python's recursion limit beyond what its stack bears.
    """
    try:
        event = jiter.from_json(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise ModelError()  # out here: the reader's error must not be its context
    return event


def _object(event: dict[str, Any], name: str) -> dict[str, Any]:
    value = event.get(name)
    if not isinstance(value, dict):
        raise ModelError()
    return value
