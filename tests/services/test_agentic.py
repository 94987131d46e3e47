"""Speaking with Claude until its first words: retries, the deadline, a caller who leaves."""

import time
from datetime import UTC, date, datetime

import pytest

from tests.fakes import FakeClock, FakeLine, FakeModel, FakeSpeech
from x402jobs.adapters.clock import SystemClock
from x402jobs.domain.errors import (
    CallerLeft,
    ContextTooLong,
    EmptyAnswer,
    InvalidApiKey,
    InvalidRequest,
    ModelError,
    ModelUnknown,
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
from x402jobs.services import agentic as module
from x402jobs.services.agentic import Agentic

PROMPT = Prompt("claude", 100, system="Say rain.", user="Please.")
KEY = Secret("sk")
HOUR = 3600.0


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)


def agentic(model):
    models = Models({"gone": date(2020, 1, 1)}, {"old": "new"})
    return Agentic(model, models, SystemClock())


def opening(model, within=HOUR, line=None):
    return agentic(model).open(PROMPT, KEY, by=time.monotonic() + within, line=line or FakeLine())


class LeavingLine:
    """A caller who has left when looked at for the nth time."""

    def __init__(self, looks):
        self.looks = looks

    def gone(self):
        self.looks -= 1
        return self.looks < 0


def test_a_prompt_is_prepared_with_a_living_model_and_is_otherwise_the_same():
    prepared = agentic(FakeModel()).prepare(Prompt("old", 5, system="s", user="u"))

    assert prepared == Prompt("new", 5, system="s", user="u")
    with pytest.raises(TemplateUnavailable):
        agentic(FakeModel()).prepare(Prompt("gone", 5, system="s", user="u"))


def test_a_templates_model_is_judged_by_todays_date():
    """The day is UTC's, as Claude's dates are."""
    models = Models({"gone": date(2027, 1, 15)}, {})
    clock = FakeClock(datetime(2027, 1, 14, 23, 59, 59, tzinfo=UTC).timestamp())
    service = Agentic(FakeModel(), models, clock)

    assert service.accept_model("gone") == [
        "gone will be retired on 15 January 2027; calls are refused from that day."
    ]
    clock.advance(1)
    with pytest.raises(InvalidRequest):
        service.accept_model("gone")


def test_a_key_is_good_unless_claude_says_otherwise():
    good, bad = FakeModel(), FakeModel(refuses=InvalidApiKey())

    agentic(good).check_key(KEY)
    with pytest.raises(InvalidApiKey):
        agentic(bad).check_key(KEY)

    assert good.checked == bad.checked == [KEY], "asked once, and not again"


def test_a_speech_that_begins_is_handed_over_open():
    speech = FakeSpeech("Rain.")
    model = FakeModel(speech)

    with opening(model) as opened:
        assert opened is speech

    assert model.asked == [(PROMPT, KEY)]
    assert speech.closings == 0


@pytest.mark.parametrize("error", [ValueError, CallerLeft, KeyboardInterrupt, GeneratorExit])
def test_a_speech_left_by_any_exception_is_closed(error):
    speech = FakeSpeech("Rain.")

    with pytest.raises(error), opening(FakeModel(speech)):
        raise error()

    assert speech.closings == 1


@pytest.mark.parametrize("error", [RateLimited, Overloaded, NetworkError, Truncated])
@pytest.mark.parametrize("failures", [1, 2])
def test_what_may_pass_is_tried_again_at_most_twice(error, failures):
    failed = [FakeSpeech(begins=error()) for _ in range(failures)]
    good = FakeSpeech("Rain.")

    with opening(FakeModel(*failed, good)) as opened:
        assert opened is good

    assert [each.closings for each in failed] == [1] * failures
    assert good.closings == 0


@pytest.mark.parametrize("error", [RateLimited, Overloaded, NetworkError, Truncated])
def test_the_third_failure_is_told_as_it_is(error):
    failed = [FakeSpeech(begins=error()) for _ in range(3)]
    model = FakeModel(*failed, FakeSpeech("Rain."))

    with pytest.raises(error), opening(model):
        pytest.fail("there is nothing to open")

    assert len(model.asked) == 3
    assert all(each.closings for each in failed)


@pytest.mark.parametrize(
    "error", [InvalidApiKey, ContextTooLong, ModelUnknown, TimedOut, EmptyAnswer, ModelError]
)
def test_what_will_not_pass_is_not_tried_again(error):
    failed = FakeSpeech(begins=error())
    model = FakeModel(failed, FakeSpeech("Rain."))

    with pytest.raises(error), opening(model):
        pytest.fail("there is nothing to open")

    assert (len(model.asked), failed.closings) == (1, 1)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_fault_of_ours_closes_the_speech_and_is_not_tried_again(error):
    failed = FakeSpeech(begins=error())
    model = FakeModel(failed, FakeSpeech("Rain."))

    with pytest.raises(error), opening(model):
        pytest.fail("there is nothing to open")

    assert (len(model.asked), failed.closings) == (1, 1)


def test_claudes_own_wait_is_kept_to():
    failed = FakeSpeech(begins=Overloaded(retry_after=0.2))
    began = time.monotonic()

    with opening(FakeModel(failed, FakeSpeech("Rain."))):
        assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("wait", [5.0, 3600.0])
def test_a_wait_beyond_the_deadline_is_not_begun_and_passed_on_to_the_caller(wait):
    model = FakeModel(FakeSpeech(begins=RateLimited(retry_after=wait)), FakeSpeech("Rain."))

    with pytest.raises(RateLimited) as refusal, opening(model, within=2.0):
        pytest.fail("there is nothing to open")

    assert refusal.value.retry_after == wait
    assert len(model.asked) == 1


def test_the_pauses_between_tries_double(monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.1)
    began = time.monotonic()

    with opening(FakeModel(*(FakeSpeech(begins=NetworkError()) for _ in range(2)), FakeSpeech())):
        assert time.monotonic() - began >= 0.3


def test_a_silent_claude_is_closed_at_the_deadline():
    speech = FakeSpeech(silent=True)
    model = FakeModel(speech, FakeSpeech("Rain."))

    with pytest.raises(TimedOut), opening(model, within=0.1):
        pytest.fail("there is nothing to open")

    assert speech.closed.is_set()
    assert len(model.asked) == 1, "a deadline is one for all tries"


def test_all_tries_share_one_deadline():
    model = FakeModel(
        FakeSpeech(begins=NetworkError()),
        FakeSpeech(begins=NetworkError()),
        FakeSpeech(silent=True),
    )

    with pytest.raises(TimedOut), opening(model, within=0.3):
        pytest.fail("there is nothing to open")

    assert len(model.asked) == 3


def test_a_deadline_that_has_passed_already_leaves_claude_no_time():
    speech = FakeSpeech(silent=True)

    with pytest.raises(TimedOut), opening(FakeModel(speech), within=-1.0):
        pytest.fail("there is nothing to open")

    assert speech.closed.is_set()


def test_the_deadline_does_not_end_a_speech_that_has_begun():
    speech = FakeSpeech("Rain.")

    with opening(FakeModel(speech), within=0.1):
        time.sleep(0.2)

    assert not speech.closed.is_set()


def test_a_caller_who_leaves_while_claude_is_silent_ends_the_call():
    line, speech = FakeLine(), FakeSpeech(silent=True)

    def leave():
        line.left = True

    speech._begins = leave

    with pytest.raises(CallerLeft), opening(FakeModel(speech), line=line):
        pytest.fail("there is nothing to open")

    assert speech.closed.is_set()


def test_a_caller_who_leaves_while_claude_refuses_is_not_kept_waiting_for():
    line = FakeLine()
    model = FakeModel(FakeSpeech(begins=Overloaded()), FakeSpeech("Rain."))

    line.left = True
    with pytest.raises(CallerLeft), opening(model, line=line):
        pytest.fail("there is nothing to open")

    assert len(model.asked) == 1


@pytest.mark.parametrize("looks", range(6))
def test_a_caller_who_leaves_at_any_look_stops_the_tries(looks, monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.05)
    failed = [FakeSpeech(begins=Overloaded()) for _ in range(2)]
    silent = FakeSpeech(silent=True)

    with pytest.raises(CallerLeft), opening(FakeModel(*failed, silent), line=LeavingLine(looks)):
        pytest.fail("there is nothing to open")

    assert silent.closed.is_set() == silent.begun.is_set()


def test_time_that_runs_out_in_a_pause_is_told_as_such(monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.1)
    clock, model = SystemClock(), FakeModel(FakeSpeech(begins=Overloaded()), FakeSpeech())
    service = Agentic(model, Models({}, {}), clock)
    by = time.monotonic() + 0.15

    class Jump:
        """A machine that sleeps while the pause is under way."""

        def gone(self):
            if len(model.asked) == 1 and by - time.monotonic() < 0.09:
                clock.monotonic = lambda: by + 1
            return False

    with pytest.raises(TimedOut), service.open(PROMPT, KEY, by=by, line=Jump()):
        pytest.fail("there is nothing to open")

    assert len(model.asked) == 1
