"""From settlement to the ending: one thread, one row, one ending."""

import threading
from dataclasses import replace

import pytest

from tests.fakes import FakeClock, FakeSpeech, MemoryLedger, PlainBox
from x402jobs.domain.errors import (
    AnswerExpired,
    Conflict,
    InProgress,
    NetworkError,
    Overloaded,
    RateLimited,
    SettlementUnknown,
    StoreUnavailable,
    Superseded,
    Truncated,
    Unpaid,
    X402JobsError,
)
from x402jobs.domain.events import Done, Failed
from x402jobs.domain.execution import Execution, Kind, State
from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.services import runs as module
from x402jobs.services.left_rows import LeftRows
from x402jobs.services.runs import Runs, answer_place

PAID = Execution(
    id="e1",
    kind=Kind.PAID,
    state=State.SETTLED,
    template_id="t",
    template_version=1,
    digest="d",
    worker="w1",
    created_at=1000.0,
    payer="0xada",
    network=DEVELOPMENT.id,
    amount=10_000,
    transaction="0x1",
)
UNPAID = replace(
    PAID, kind=Kind.FREE, state=State.CLAIMED, payer=None, network=None, amount=0, transaction=None
)
PATIENT = 10.0


class Shop:
    """Runs over fakes; the store's patience passes on the fake clock."""

    def __init__(self, monkeypatch):
        self.ledger, self.clock, self.box = MemoryLedger(), FakeClock(1002.5), PlainBox()
        self.left = LeftRows(self.clock)
        self.runs = Runs(self.ledger, self.box, self.clock, self.left)
        clock = self.clock

        class Pause:
            def wait(self, seconds):
                clock.advance(seconds)

        monkeypatch.setattr(module, "Event", Pause)

    def start(self, speech, execution=PAID):
        if execution.kind is Kind.PAID:
            self.ledger.rows[execution.id] = execution
        return self.runs.start(speech, execution)

    def tell(self, speech, execution=PAID):
        """The text and the ending of a whole run."""
        return heard(self.start(speech, execution))


@pytest.fixture
def shop(monkeypatch):
    yield Shop(monkeypatch)
    for thread in threading.enumerate():
        if thread.name.startswith("run-"):
            thread.join(PATIENT)
            assert not thread.is_alive()


def heard(follower):
    said = []
    for event in follower.events(PATIENT):
        assert event is not None, "a run that does not end"
        said.append(event)
    *texts, ending = said
    return "".join(texts), ending


def waiting():
    """A step of a speech that waits until it is let go on, and says when it is there."""
    there, go = threading.Event(), threading.Event()

    def wait():
        there.set()
        assert go.wait(PATIENT)

    return there, go, wait


# The ending


def test_a_finished_answer_is_durable_before_anybody_hears_that_it_is_done(shop):
    speech = FakeSpeech("Rain ", "taps.")

    text, ending = shop.tell(speech)

    assert text == "Rain taps."
    assert ending == Done(shop.ledger.row)
    row = shop.ledger.row
    assert (row.state, row.ended_at, row.duration_ms) == (State.COMPLETED, 1002.5, 2500)
    assert (row.model, row.stop_reason) == ("claude-that-answered", "end_turn")
    assert row.usage == {"output_tokens": 3}
    assert shop.box.open(shop.ledger.answers["e1"], answer_place("e1")).reveal() == "Rain taps."
    assert speech.closed.is_set()


def test_the_ledger_has_the_ending_before_the_callers_do(shop):
    there, go, wait = waiting()
    follower = shop.start(FakeSpeech("Rain.", wait))
    events = follower.events(PATIENT)
    assert next(events) == "Rain."
    assert there.wait(PATIENT)

    assert shop.ledger.steps == []
    go.set()
    (ending,) = events

    assert shop.ledger.steps == ["completed"]
    assert ending == Done(shop.ledger.row)


@pytest.mark.parametrize("error", [Truncated, NetworkError])
def test_an_answer_that_breaks_off_is_owed(shop, error):
    text, ending = shop.tell(FakeSpeech("Rain ", error()))

    row = shop.ledger.row
    assert text == "Rain "
    assert (row.state, row.code, row.ended_at) == (State.REFUND_DUE, error.code, 1002.5)
    assert ending.execution == row
    assert isinstance(ending.error, error)
    assert row.credit.reruns_left == 3
    assert shop.ledger.answers == {}


@pytest.mark.parametrize("fault", [RuntimeError, ValueError, LookupError])
def test_a_fault_of_ours_ends_in_one_error_and_is_owed(shop, fault):
    speech = FakeSpeech("Rain ", fault("canary"))

    text, ending = shop.tell(speech)

    assert isinstance(ending, Failed)
    assert (ending.error.code, ending.error.message) == (
        "UNKNOWN",
        "Execution failed. Please try again.",
    )
    assert (shop.ledger.row.state, shop.ledger.row.code) == (State.REFUND_DUE, "UNKNOWN")
    assert speech.closed.is_set()


@pytest.mark.parametrize("length", [2**20 - 1, 2**20])
def test_an_answer_of_a_megabyte_is_kept(shop, length):
    text, ending = shop.tell(FakeSpeech(*["a" * 1000] * (length // 1000), "a" * (length % 1000)))

    assert (len(text), type(ending)) == (length, Done)


def test_an_answer_over_a_megabyte_is_ended_and_owed(shop):
    endless = FakeSpeech(*["a" * 2**18] * 5, lambda: pytest.fail("nobody listens any more"))

    _, ending = shop.tell(endless)

    assert isinstance(ending, Failed)
    assert ending.error.code == "UPSTREAM_REJECTED"
    assert shop.ledger.row.state is State.REFUND_DUE
    assert endless.closed.is_set()


# The store is away


@pytest.mark.parametrize("failures", [1, 5, 14])
def test_a_store_that_comes_back_gets_the_ending(shop, failures):
    shop.ledger.troubles = {"completed": failures}

    text, ending = shop.tell(FakeSpeech("Rain."))

    assert (text, ending) == ("Rain.", Done(shop.ledger.row))
    assert shop.ledger.row.state is State.COMPLETED
    assert shop.ledger.steps == ["completed"] * (failures + 1)
    assert shop.clock.now() == 1002.5 + failures


def test_a_store_that_stays_away_ends_in_one_error_without_a_promise(shop):
    shop.ledger.troubles = {"completed": 99, "refund_due": 99}

    text, ending = shop.tell(FakeSpeech("Rain."))

    assert text == "Rain."
    assert isinstance(ending, Failed)
    assert isinstance(ending.error, StoreUnavailable)
    assert ending.execution == PAID, "what the ledger says: paid, and not ended"
    assert ending.execution.credit is None
    assert shop.ledger.row == PAID


def test_an_answer_that_cannot_be_kept_is_owed_once_the_store_is_back(shop):
    shop.ledger.troubles = {"completed": 99}

    _, ending = shop.tell(FakeSpeech("Rain."))

    assert isinstance(ending.error, StoreUnavailable)
    assert shop.ledger.row.state is State.REFUND_DUE
    assert ending.execution == shop.ledger.row


@pytest.mark.parametrize("failures", [1, 14])
def test_a_debt_waits_for_the_store_like_an_answer(shop, failures):
    shop.ledger.troubles = {"refund_due": failures}

    _, ending = shop.tell(FakeSpeech("Rain ", Truncated()))

    assert ending.execution == shop.ledger.row
    assert shop.ledger.row.state is State.REFUND_DUE


def test_who_has_lost_the_row_writes_nothing(shop):
    there, go, wait = waiting()
    follower = shop.start(FakeSpeech("Rain.", wait))
    assert there.wait(PATIENT)
    taken = replace(PAID, attempt=2, worker="w2")
    shop.ledger.rows["e1"] = taken
    go.set()

    _, ending = heard(follower)

    assert isinstance(ending.error, Superseded)
    assert shop.ledger.row == taken
    assert shop.ledger.answers == {}


def test_a_store_that_breaks_in_a_new_way_still_ends_the_stream(shop):
    shop.ledger.troubles = {"completed": 99, "refund_due": 99}
    shop.ledger.trouble = lambda: UnicodeEncodeError("utf-8", "canary", 0, 1, "surrogates")

    _, ending = shop.tell(FakeSpeech("Rain."))

    assert isinstance(ending, Failed)
    assert ending.error.code == "UNKNOWN"
    assert shop.ledger.row == PAID


# Unpaid runs


def test_a_free_run_is_one_insert_at_the_end(shop):
    text, ending = shop.tell(FakeSpeech("Rain."), UNPAID)

    assert (text, ending) == ("Rain.", Done(shop.ledger.row))
    assert shop.ledger.steps == ["record"]
    assert shop.ledger.row.state is State.COMPLETED
    assert shop.ledger.answers == {}


def test_a_free_run_that_fails_is_owed_to_nobody(shop):
    _, ending = shop.tell(FakeSpeech("Rain ", Truncated()), UNPAID)

    assert (ending.execution.state, ending.execution.credit) == (State.RELEASED, None)
    assert shop.ledger.steps == ["record"]


# Followers


class SilentAfter(FakeSpeech):
    """Says its texts and then nothing, until it is closed."""

    def __iter__(self):
        yield from super().__iter__()
        assert self.closed.wait(PATIENT)
        raise NetworkError()


@pytest.mark.parametrize("followers", [1, 3])
def test_the_last_follower_of_an_unpaid_run_ends_it(shop, followers):
    speech = SilentAfter("Rain.")
    first = shop.start(speech, UNPAID)
    others = [shop.runs.again(UNPAID) for _ in range(followers - 1)]

    for follower in others:
        follower.close()
        assert not speech.closed.is_set()
    first.close()

    assert speech.closed.wait(PATIENT)


def test_a_paid_run_goes_on_without_anybody_listening(shop):
    there, go, wait = waiting()
    speech = FakeSpeech("Rain ", wait, "taps.")
    follower = shop.start(speech)
    assert there.wait(PATIENT)
    follower.close()

    assert not speech.closed.is_set()
    late = shop.runs.again(PAID)
    go.set()
    assert heard(late) == ("Rain taps.", Done(shop.ledger.row))


def test_who_leaves_twice_has_left_once(shop):
    speech = SilentAfter("Rain.")
    first = shop.start(speech, UNPAID)
    other = shop.runs.again(UNPAID)

    first.close()
    first.close()

    assert not speech.closed.is_set()
    other.close()
    assert speech.closed.wait(PATIENT)


def test_a_response_that_was_never_read_does_not_hold_up_the_run(shop):
    follower = shop.start(FakeSpeech("Rain."))
    follower.events(PATIENT)
    follower.close()

    assert heard(shop.runs.again(PAID) if shop.runs._running else again(shop))[0] == "Rain."


def again(shop):
    return shop.runs.again(shop.ledger.row)


def test_leaving_after_the_end_closes_nothing_again(shop):
    speech = FakeSpeech("Rain.")
    follower = shop.start(speech, UNPAID)
    heard(follower)
    closings = speech.closings

    follower.close()

    assert speech.closings == closings == 1


def test_a_run_that_has_ended_is_forgotten_by_the_worker(shop):
    heard(shop.start(FakeSpeech("Rain.")))

    assert shop.runs._running == {}


# Again


def test_a_second_caller_hears_a_live_run_from_its_beginning(shop):
    there, go, wait = waiting()
    first = shop.start(FakeSpeech("Rain ", wait, "taps."))
    assert there.wait(PATIENT)

    second = shop.runs.again(PAID)
    go.set()

    assert heard(first) == heard(second) == ("Rain taps.", Done(shop.ledger.row))


def test_a_live_run_of_another_attempt_is_not_this_one(shop):
    there, go, wait = waiting()
    first = shop.start(FakeSpeech("Rain.", wait))
    assert there.wait(PATIENT)

    with pytest.raises(InProgress):
        shop.runs.again(replace(PAID, attempt=2))
    go.set()
    heard(first)


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (State.CLAIMED, InProgress),
        (State.SETTLING, SettlementUnknown),
        (State.SETTLED, InProgress),
    ],
)
def test_what_has_not_ended_elsewhere_has_to_be_asked_for_again(shop, state, error):
    with pytest.raises(error) as refusal:
        shop.runs.again(replace(PAID, state=state))

    assert refusal.value.execution.id == "e1"
    assert refusal.value.retry_after > 0


@pytest.mark.parametrize(
    ("state", "code", "error"),
    [
        (State.REFUND_DUE, "STREAM_INTERRUPTED", Truncated()),
        (State.REFUND_DUE, "RATE_LIMIT", RateLimited()),
        (State.REFUND_DUE, None, X402JobsError()),
        (State.REFUNDED, "STREAM_INTERRUPTED", Conflict("This payment has been refunded.")),
        (State.RELEASED, "OVERLOADED", Overloaded()),
        (State.RELEASED, "insufficient_funds", Unpaid()),
        (State.RELEASED, "PAYMENT_REQUIRED", Unpaid()),
    ],
)
def test_what_ended_without_an_answer_says_so_again_in_the_same_words(shop, state, code, error):
    row = replace(PAID, state=state, code=code)

    text, ending = heard(shop.runs.again(row, after=7))

    assert (text, ending.execution) == ("", row)
    said = ending.error
    assert (said.code, said.message) == (error.code, error.message)
    assert (said.status, said.recoverable) == (error.status, error.recoverable)


def test_the_answer_of_an_unpaid_run_is_not_kept(shop):
    with pytest.raises(AnswerExpired, match="unpaid run"):
        shop.runs.again(replace(UNPAID, state=State.COMPLETED, ended_at=shop.clock.now()))


@pytest.mark.parametrize(("after", "rest"), [(0, "Rain."), (2, "in."), (5, ""), (99, "")])
def test_an_answer_is_heard_from_anywhere_on(shop, after, rest):
    there, go, wait = waiting()
    first = shop.start(FakeSpeech("Ra", wait, "in."))
    assert there.wait(PATIENT)

    live = shop.runs.again(PAID, after)
    go.set()

    done = heard(first)[1]
    assert heard(live) == (rest, done)
    assert heard(shop.runs.again(shop.ledger.row, after)) == (rest, done)


def test_a_live_run_is_known_by_its_id(shop):
    there, go, wait = waiting()
    follower = shop.start(FakeSpeech("Rain.", wait), UNPAID)
    assert there.wait(PATIENT)

    assert (shop.runs.running("e1"), shop.runs.running("e2")) == (UNPAID, None)
    go.set()
    heard(follower)
    assert shop.runs.running("e1") is None


def kept(shop, ended_at=1002.5, sealed=None):
    shop.ledger.answers["e1"] = sealed or shop.box.seal("Rain.", answer_place("e1"))
    return replace(PAID, state=State.COMPLETED, ended_at=ended_at)


@pytest.mark.parametrize("hours", [0, 1, 23.99])
def test_a_kept_answer_is_heard_again_as_often_as_one_likes(shop, hours):
    done = kept(shop)
    shop.clock.advance(hours * 3600)

    for _ in range(2):
        follower = shop.runs.again(done)
        assert heard(follower) == ("Rain.", Done(done))
        follower.close()
        follower.close()


@pytest.mark.parametrize("hours", [24, 25, 10_000])
def test_after_a_day_only_the_receipt_is_left(shop, hours):
    done = kept(shop)
    shop.clock.advance(hours * 3600)

    with pytest.raises(AnswerExpired) as refusal:
        shop.runs.again(done)

    assert refusal.value.execution.receipt == done.receipt
    assert shop.ledger.steps == []


def test_an_answer_that_was_purged_or_does_not_open_is_expired(shop):
    done = kept(shop, sealed="garbage")
    with pytest.raises(AnswerExpired, match="can no longer be read"):
        shop.runs.again(done)

    shop.ledger.answers.clear()
    with pytest.raises(AnswerExpired) as refusal:
        shop.runs.again(done)
    assert refusal.value.execution == done


def test_an_ending_without_a_time_is_long_past(shop):
    shop.clock.advance(86_400)

    with pytest.raises(AnswerExpired):
        shop.runs.again(kept(shop, ended_at=None))


def test_a_resume_token_is_a_signature_over_the_execution(shop):
    assert shop.runs.resume_token(PAID) == "signed resume e1"
    assert shop.runs.resume_token(replace(PAID, id="e2")) == "signed resume e2"
    assert shop.runs.is_resume_token("signed resume e1", "e1")
    assert not shop.runs.is_resume_token("signed resume e1", "e2")


def test_a_run_that_cannot_begin_leaves_nobody_waiting_for_it(monkeypatch):
    shop = Shop(monkeypatch)

    class NoThread:
        def __init__(self, **_):
            pass

        def start(self):
            raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(module, "Thread", NoThread)
        with pytest.raises(RuntimeError):
            shop.start(FakeSpeech("never told"))

    with pytest.raises(InProgress):
        shop.runs.again(PAID)


def test_a_run_that_has_ended_since_the_store_was_asked_is_followed_from_there(shop):
    asked = PAID
    assert asked.state is State.SETTLED
    shop.tell(FakeSpeech("Rain ", "taps."), asked)

    text, ending = heard(shop.runs.again(asked))

    assert (text, ending) == ("Rain taps.", Done(shop.ledger.row))


def test_a_run_that_has_broken_off_since_is_run_again_at_the_next_call(shop):
    shop.tell(FakeSpeech("Rain ", Truncated()), PAID)
    assert shop.ledger.row.state is State.REFUND_DUE

    with pytest.raises(InProgress):
        shop.runs.again(PAID)
