"""Speaking with Claude, until its first words."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from threading import Event

from x402jobs import metrics
from x402jobs.alarms import ALARMS
from x402jobs.domain.errors import (
    CallerLeft,
    InvalidRequest,
    ModelError,
    NetworkError,
    Overloaded,
    RateLimited,
    TemplateUnavailable,
    TimedOut,
    Truncated,
)
from x402jobs.domain.models import Models
from x402jobs.domain.prompt_template import Prompt
from x402jobs.domain.secret import Secret
from x402jobs.ports import Clock, LanguageModel, Line, Speech

MAX_RETRIES = 2
FIRST_PAUSE_SECONDS = 0.5
LOOK_SECONDS = 1.0
"""How often the caller's socket is looked at while nothing may be written yet."""

WORTH_RETRYING = (RateLimited, Overloaded, NetworkError, Truncated)


class Agentic:
    """Opens speeches. What happens to one after its first words is the run's affair."""

    def __init__(self, model: LanguageModel, models: Models, clock: Clock) -> None:
        self._model = model
        self._models = models
        self._clock = clock

    def prepare(self, prompt: Prompt) -> Prompt:
        """The prompt with a living model. Raises TemplateUnavailable when there is none."""
        return replace(prompt, model=self._models.resolve(prompt.model, self._today()))

    def accept_model(self, name: str) -> list[str]:
        """What its creator should know about a template's model.

        Raises InvalidRequest for a name that nothing could answer to.
        """
        return self._models.accept(name, self._today())

    def model_warnings(self, name: str) -> list[str]:
        """What the creator should know about the model of a stored template, in sentences."""
        try:
            return self.accept_model(name)
        except InvalidRequest as refusal:
            return [refusal.message]

    def answering_model(self, name: str) -> str:
        """The model that answers in this name today, as far as we know."""
        try:
            return self._models.resolve(name, self._today())
        except TemplateUnavailable:
            return name

    def check_key(self, key: Secret) -> None:
        """Return if Claude takes the key; no tokens are spent.

        Raises InvalidApiKey when it does not, another ModelError when Claude could not be asked:
        then nothing is known about the key.
        """
        with metrics.waiting("claude_key"):
            self._model.check_key(key)

    @contextmanager
    def open(self, prompt: Prompt, key: Secret, *, by: float, line: Line) -> Iterator[Speech]:
        """Call Claude and wait for its first content, at the latest until `by` (monotonic).

        Tries again, at most twice, where that may help and the deadline allows it; once without the
        temperature, where it may have been that which was refused. The caller's
        line is watched meanwhile: raises CallerLeft as soon as they hang up. Left by an exception,
        the speech is closed.
        """
        speech = self._begin(prompt, key, by, line)
        try:
            yield speech
        except BaseException:
            speech.close()
            raise

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock.now(), UTC).date()

    def _begin(self, prompt: Prompt, key: Secret, by: float, line: Line) -> Speech:
        for tried in range(MAX_RETRIES + 1):
            speech = self._model.speech(prompt, key)
            try:
                with self._watch(speech, by, line), metrics.waiting("claude"):
                    speech.begin()
                return speech
            except ModelError as error:
                speech.close()
                self._refuse_to_wait(by, line)
                if _may_be_the_temperature(error, prompt) and tried < MAX_RETRIES:
                    prompt = replace(prompt, temperature=None)
                    continue
                pause = error.retry_after or FIRST_PAUSE_SECONDS * 2**tried
                out_of_time = self._clock.monotonic() + pause >= by
                if tried == MAX_RETRIES or out_of_time or not isinstance(error, WORTH_RETRYING):
                    raise
            except BaseException:
                speech.close()
                raise
            with metrics.waiting("claude_pause"):
                self._pause(pause, by, line)
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def _watch(self, speech: Speech, by: float, line: Line) -> Iterator[None]:
        """Close the speech, from beside it, when the caller leaves or time is up."""

        def look() -> None:
            if line.gone():
                speech.close()

        until = ALARMS.set(by - self._clock.monotonic(), speech.close)
        looks = ALARMS.set(LOOK_SECONDS, look)
        try:
            yield
        finally:
            until.cancel()
            looks.cancel()

    def _pause(self, seconds: float, by: float, line: Line) -> None:
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            Event().wait(min(left, LOOK_SECONDS))
            self._refuse_to_wait(by, line)

    def _refuse_to_wait(self, by: float, line: Line) -> None:
        """Say why a speech was closed from beside it."""
        if line.gone():
            raise CallerLeft()
        if self._clock.monotonic() >= by:
            raise TimedOut()


def _may_be_the_temperature(error: ModelError, prompt: Prompt) -> bool:
    """Some models take none. Claude's refusal has no type of its own, and words may change."""
    return type(error) is ModelError and prompt.temperature is not None
