"""Runs: from settlement to the ending, one thread owns Claude's stream, the row and the words."""

from collections.abc import Callable, Iterator
from threading import Event, Lock, Thread

import structlog

from x402jobs import metrics
from x402jobs.alarms import Bell
from x402jobs.carried import carried
from x402jobs.domain.errors import (
    AnswerExpired,
    Conflict,
    Drained,
    InProgress,
    ModelError,
    SettlementUnknown,
    StoreUnavailable,
    Superseded,
    Unavailable,
    Unreadable,
    X402JobsError,
    remembered,
)
from x402jobs.domain.events import Done, Ending, Failed
from x402jobs.domain.execution import Execution, Kind, State
from x402jobs.domain.transcript import Transcript
from x402jobs.logs import name_execution
from x402jobs.ports import Clock, Ledger, Place, SecretBox, Speech
from x402jobs.services.left_rows import LeftRows

ANSWER_KEPT_SECONDS = 24 * 3600
MAX_ANSWER_CHARACTERS = 2**20
STORE_PATIENCE_SECONDS = 15.0
"""How long an ending waits for the database; afterwards the row is for others to take over."""

KEPT = frozenset({Kind.PAID, Kind.TASK})
"""Runs whose row is there from their beginning, and whose answer is kept."""

Afterwards = Callable[[Ending], None]

log = structlog.get_logger(__name__)


class Follower:
    """A connection's place in a transcript; iterate it, and close it when the caller is gone.

    `after` is how many code points of the answer it leaves out: the caller has them.
    """

    def __init__(
        self,
        transcript: Transcript,
        execution: Execution,
        leave: Callable[[], None] = lambda: None,
        after: int = 0,
    ):
        self.execution = execution
        self.after = after
        self._transcript = transcript
        self._leave: Callable[[], None] | None = leave

    def events(self, silence: float) -> Iterator[str | Ending | None]:
        """What is said from there on, None after each `silence` seconds without anything."""
        return self._transcript.follow(Bell(silence), self.after)

    @property
    def is_over(self) -> bool:
        """Whether the ending is there: what `events` still has, it has at once."""
        return self._transcript.ending is not None

    def close(self) -> None:
        """Leave, once, however often it is said."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class Run:
    """One answer on its way, told by its own thread. Followers may leave; a paid run goes on."""

    def __init__(self, speech: Speech, execution: Execution, afterwards: Afterwards) -> None:
        self.transcript = Transcript()
        self.afterwards = afterwards
        self.execution = execution
        self.speech = speech
        self.interrupted_by: X402JobsError | None = None
        self._followers = 0
        self._lock = Lock()

    def interrupt(self, why: X402JobsError) -> None:
        """Let it end now, and this be the reason."""
        self.interrupted_by = why
        self.speech.close()

    def follow(self, after: int = 0) -> Follower:
        """One follower more, who leaves out so many code points."""
        with self._lock:
            self._followers += 1
        return Follower(self.transcript, self.execution, self._leave, after)

    def _leave(self) -> None:
        """One follower less. An unpaid run ends with its last one: nobody is owed the rest."""
        with self._lock:
            self._followers -= 1
            alone = self._followers == 0
        if alone and self.execution.kind is not Kind.PAID and self.transcript.ending is None:
            self.speech.close()


class Runs:
    """The runs of this worker, and the answers of runs that have ended."""

    def __init__(self, ledger: Ledger, box: SecretBox, clock: Clock, left: LeftRows) -> None:
        self._ledger = ledger
        self._box = box
        self._clock = clock
        self._left = left
        self._is_closing = False
        self._running: dict[tuple[str, int], Run] = {}

    def start(
        self, speech: Speech, execution: Execution, afterwards: Afterwards = lambda ending: None
    ) -> Follower:
        """Let the run begin, and be its first follower. The run owns speech and row from here.

        `afterwards` hears of the ending when it is written down, before any follower does.
        """
        name_execution(execution.id)
        run = Run(speech, execution, afterwards)
        self._running[execution.id, execution.attempt] = run
        first = run.follow()
        try:
            tell = carried(self._tell)
            Thread(target=tell, args=[run], name=f"run-{execution.id}", daemon=True).start()
        except BaseException:
            del self._running[execution.id, execution.attempt]
            raise
        return first

    def again(self, execution: Execution, after: int = 0) -> Follower:
        """Follow an execution that began before: live in this worker, else as it has ended.

        Raises InProgress while another worker tells it, SettlementUnknown while the money may have
        moved, AnswerExpired once a whole answer is no longer kept.
        """
        name_execution(execution.id)
        run = self._running.get((execution.id, execution.attempt))
        if run is not None:
            if (spent := metrics.spent()) is not None:
                spent.is_alone = False
            return run.follow(after)
        if execution.state is State.SETTLED:
            # Perhaps it was still told here when the store was asked, and is whole since.
            found = self._ledger.execution(execution.id)
            if found is not None and found[0].state is State.COMPLETED:
                execution = found[0]
        if execution.state is State.SETTLING:
            raise SettlementUnknown(execution=execution)
        if execution.state in (State.CLAIMED, State.SETTLED):
            raise InProgress(execution=execution)
        if execution.state is not State.COMPLETED:
            nothing = Transcript("", Failed(execution, _why(execution)))
            return Follower(nothing, execution, after=after)
        return Follower(Transcript(self._kept(execution), Done(execution)), execution, after=after)

    def check_open(self) -> None:
        """Raises Unavailable once this worker takes nothing new; what was bought is still told."""
        if self._is_closing:
            raise Unavailable()

    def refuse_new(self) -> None:
        """Take nothing new from now on: the server is about to end."""
        self._is_closing = True

    def drain(self) -> None:
        """End every run that is left, in good order: what was paid for becomes a debt."""
        for run in list(self._running.values()):
            run.interrupt(Drained())

    @property
    def left(self) -> int:
        """How many are being told."""
        return len(self._running)

    @property
    def are_over(self) -> bool:
        """Whether nothing is being told."""
        return not self._running

    def resume_token(self, execution: Execution) -> str:
        """What lets its bearer come back to this execution without the payment."""
        return self._box.sign(_resume(execution.id))

    def is_resume_token(self, token: str, execution_id: str) -> bool:
        """Whether `resume_token` made it for this execution, if there is one."""
        return self._box.is_signed(_resume(execution_id), token)

    def running(self, execution_id: str) -> Execution | None:
        """The execution as this worker runs it. An unpaid one is in no ledger before it ends."""
        found = (each.execution for each in list(self._running.values()))
        return next((each for each in found if each.id == execution_id), None)

    def is_running(self, caller_id: str, tile: str | None) -> bool:
        """Whether this worker runs the tile for this account."""
        asked = (caller_id, tile)
        return any(
            (each.execution.caller_id, each.execution.tile) == asked
            for each in list(self._running.values())
        )

    def _kept(self, execution: Execution) -> str:
        """The whole answer. Raises AnswerExpired."""
        if execution.kind not in KEPT:
            raise AnswerExpired("The answer of an unpaid run is not kept.", execution=execution)
        age = self._clock.now() - (execution.ended_at or 0)
        sealed = self._ledger.sealed_answer(execution) if age < ANSWER_KEPT_SECONDS else None
        if sealed is None:
            raise AnswerExpired(execution=execution)
        try:
            return self._box.open(sealed, answer_place(execution.id)).reveal()
        except Unreadable:
            raise AnswerExpired("This answer can no longer be read.", execution=execution) from None

    def _tell(self, run: Run) -> None:
        """Write Claude's words down, then end once: the ledger first, the callers after."""
        try:
            ending = self._listen(run)
        except X402JobsError as error:
            ending = self._fail(run, run.interrupted_by or error)
        except Exception:
            # Whatever it was, the caller is told and the debt is written down.
            log.exception("run_broke")
            ending = self._fail(run, X402JobsError())
        run.speech.close()
        self._tell_afterwards(run, ending)
        self._running.pop((run.execution.id, run.execution.attempt), None)
        try:
            note_ending(ending, run.transcript.pieces)
        finally:
            run.transcript.close(ending)

    def _tell_afterwards(self, run: Run, ending: Ending) -> None:
        try:
            run.afterwards(ending)
        except Exception:
            log.exception("afterwards_broke")

    def _listen(self, run: Run) -> Ending:
        length = 0
        for text in run.speech:  # raises Truncated without Claude's end marker
            run.transcript.write(text)
            length += len(text)
            if length > MAX_ANSWER_CHARACTERS:
                raise ModelError()
        after = run.execution.become(
            State.COMPLETED,
            ended_at=self._clock.now(),
            model=run.speech.model,
            usage=run.speech.usage,
            stop_reason=run.speech.stop_reason,
        )
        answer = self._box.seal(run.transcript.text, answer_place(after.id))
        self._end(run.execution, after, sealed_answer=answer)
        return Done(after)

    def _fail(self, run: Run, error: X402JobsError) -> Ending:
        try:
            after = run.execution.fail(
                error.code, self._clock.now(), model=run.speech.model, usage=run.speech.usage
            )
            self._end(run.execution, after)
        except Superseded as lost:
            return Failed(run.execution, lost)
        except StoreUnavailable as trouble:
            self._left.leave(run.execution)
            return Failed(run.execution, trouble)
        except Exception:
            # Followers wait for an ending. The row stays `settled`, and recovery comes for it.
            log.exception("ending_broke")
            self._left.leave(run.execution)
            return Failed(run.execution, X402JobsError())
        return Failed(after, error)

    def _end(self, before: Execution, after: Execution, sealed_answer: str | None = None) -> None:
        """Write the ending down; a store that does not answer is asked again for a while.

        It may have done what it did not answer to, and then there is nothing left to write.
        """
        until, is_sure = self._clock.monotonic() + STORE_PATIENCE_SECONDS, True
        while True:
            try:
                if not is_sure and self._stands(after):
                    return
                if before.kind in KEPT:
                    self._ledger.swap(before, after, sealed_answer=sealed_answer)
                else:
                    self._ledger.record(after)
                return
            except StoreUnavailable:
                is_sure = False
                if self._clock.monotonic() >= until:
                    raise
            Event().wait(1.0)

    def _stands(self, execution: Execution) -> bool:
        found = self._ledger.execution(execution.id)
        return found is not None and found[0] == execution


def answer_place(execution_id: str) -> Place:
    """Where an answer rests for its day."""
    return Place("x402_answers", "sealed_answer", execution_id)


def _resume(execution_id: str) -> str:
    return f"resume {execution_id}"


def _why(execution: Execution) -> X402JobsError:
    """What an execution without an answer ended with, said again."""
    if execution.state is State.REFUNDED:
        return Conflict("This payment has been refunded.")
    return remembered(execution.code)


def note_ending(ending: Ending, pieces: int) -> None:
    """One line for every run: what it was, how it ended, how long it took. And its figures."""
    execution = ending.execution
    code = ending.error.code if isinstance(ending, Failed) else None
    log.info(
        "run_ended",
        execution_id=execution.id,
        kind=execution.kind,
        state=execution.state,
        code=code,
        model=execution.model,
        deltas=pieces,
        duration_ms=execution.duration_ms,
    )
    metrics.EXECUTIONS.labels(execution.kind, execution.state, code or "").inc()
    metrics.DELTAS.inc(pieces)
    metrics.TOKENS.labels("input").inc(execution.input_tokens or 0)
    metrics.TOKENS.labels("output").inc(execution.output_tokens or 0)
