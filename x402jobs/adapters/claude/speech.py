"""One answer of Claude's, as it is spoken."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from copy import copy
from threading import Lock
from typing import cast

import anthropic

from x402jobs import metrics
from x402jobs.adapters.claude.call import Call, speaking
from x402jobs.adapters.claude.faults import translate
from x402jobs.adapters.claude.keys import sendable
from x402jobs.adapters.claude.stream import Answer
from x402jobs.domain.errors import ModelError, NetworkError
from x402jobs.domain.prompt_template import Prompt
from x402jobs.domain.secret import Secret

FAREWELL_SECONDS = 0.25
"""How long the end of the body may follow Claude's end marker if the connection is to be kept."""
MAX_TEMPERATURE = 1.0
"""Callers may ask for up to 2 (seed 3); Claude takes no more than this."""


class ClaudeSpeech:
    """See `ports.Speech`. After `close`, `begin` and iteration raise NetworkError.

    Whoever may be blocked in a read has the turn. `close` never waits for it: it ends the read, and
    the response is then released by whoever finds the turn free, here or on the reader's way out.
    """

    def __init__(
        self,
        client: Callable[[], anthropic.Anthropic],
        prompt: Prompt,
        key: Secret,
        seconds: float,
    ) -> None:
        self._client = client
        self._prompt = prompt
        self._key = key
        self._seconds = seconds
        self._call = Call()
        self._turn = Lock()
        self._answer = Answer(prompt.model)
        self._texts: deque[str] = deque()
        self._response = ExitStack()
        self._chunks: Iterator[bytes] | None = None

    def begin(self) -> None:
        """Call Claude and wait for the first content; the limit on the whole answer starts here."""
        self._call.limit(self._seconds)
        self._take_turn(self._dial)

    def __iter__(self) -> Iterator[str]:
        """The text, in the pieces it came in. Ends on Claude's end marker and in no other way."""
        with metrics.waiting("claude_answer"):
            while self._has_more():
                yield self._texts.popleft()

    def close(self) -> None:
        """Hang up. A connection that has gone back to the pool by now is left alone."""
        self._call.hang_up()
        if self._turn.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._turn.release()

    @property
    def usage(self) -> dict[str, object]:
        """Tokens as Claude reports them: `message_start`'s, overwritten by `message_delta`'s."""
        return self._answer.usage

    @property
    def model(self) -> str:
        """The model that answers; the one that was asked for, until Claude has said."""
        return self._answer.model

    @property
    def stop_reason(self) -> str | None:
        """Why Claude ended, None until it has said."""
        return self._answer.stop_reason

    def _has_more(self) -> bool:
        if self._call.closed and not self._answer.ended:
            self._texts.clear()
        if not self._texts and not self._answer.ended:
            self._take_turn(self._listen)
        return bool(self._texts)

    def _take_turn(self, step: Callable[[], None]) -> None:
        """Do what may block. Returns with text or after the end; raises the failure if neither."""
        answer = self._answer
        with self._turn:
            try:
                if not (answer.over or self._call.closed):
                    step()
            except Exception as error:
                answer.failure = translate(error, answering=self._chunks is not None)
            except BaseException:  # a killed greenlet
                self._release()
                raise
            if self._call.closed and not answer.ended:
                answer.failure = NetworkError()
                self._texts.clear()
            if answer.over:
                self._release()
        if self._call.closed:
            self.close()  # it found the turn taken
        if answer.failure is not None and not self._texts:
            # Outside the handler, so that the vendor's exception, which holds the request with key
            # and prompt, is not its context. A copy, since its traceback will hold us.
            raise copy(answer.failure)

    def _dial(self) -> None:
        key = sendable(self._key)
        prompt = self._prompt
        before = speaking.set(self._call)
        try:
            response = self._response.enter_context(
                self._client()
                .copy(api_key=key)
                .messages.with_streaming_response.create(
                    model=prompt.model,
                    max_tokens=prompt.max_tokens,
                    system=prompt.system or anthropic.omit,
                    messages=[{"role": "user", "content": prompt.user}],
                    extra_body=_warmth(prompt),
                    stream=True,
                )
            )
        finally:
            speaking.reset(before)
        headers = response.headers
        if not headers.get("content-type", "").startswith("text/event-stream"):
            raise ModelError()
        if headers.get("content-encoding", "identity") != "identity":  # nobody has asked for it
            raise ModelError()
        # Not `iter_bytes`: five layers that have nothing to do here (docs/decisions/0018).
        self._chunks = iter(cast(Iterable[bytes], response.http_response.stream))
        self._listen()

    def _listen(self) -> None:
        """Read until there is text, or the end."""
        if self._chunks is None:  # not begun
            raise NetworkError()
        while not (self._texts or self._answer.over):
            chunk = next(self._chunks, None)
            if chunk is None:
                self._answer.finish()
            else:
                self._texts.extend(self._answer.feed(chunk))

    def _release(self) -> None:
        """Give the response back. Its connection is kept if the body was read to its end."""
        if self._answer.ended and self._chunks is not None:
            self._call.limit(FAREWELL_SECONDS)
            with suppress(Exception):  # the answer is complete; only the connection is lost
                for _ in self._chunks:
                    pass
        self._response.close()
        self._chunks = None


def _warmth(prompt: Prompt) -> dict[str, float] | None:
    """The temperature. The package has no name for it any more; older models still take it."""
    if prompt.temperature is None:
        return None
    return {"temperature": min(prompt.temperature, MAX_TEMPERATURE)}
