"""Rows that nobody works on any more, brought to their endings (spec/money.md)."""

from collections.abc import Sequence
from threading import Thread

import structlog

from x402jobs import metrics
from x402jobs.domain.errors import Superseded, Truncated, remembered
from x402jobs.domain.execution import Execution, State
from x402jobs.domain.invariants import GRACE_SECONDS
from x402jobs.logs import name_execution
from x402jobs.ports import Clock, Ledger
from x402jobs.services.left_rows import LeftRows
from x402jobs.services.settlement import Settlement, note_settled

ROWS_AT_ONCE = 50
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 300.0
"""Between two looks at a row that could not be decided: a tenth of its age, within these."""
OVERDUE_SECONDS = GRACE_SECONDS / 2
"""So long after its own time limit nobody can be at work on a row; the rest is for ending it."""
INTERRUPTED = Truncated.code
"""How a row ends whose worker did not live to end it."""

log = structlog.get_logger(__name__)


class Recovery:
    """Takes rows over from workers that are gone, and from this one where it had to leave them.

    And from anybody who has had them for longer than they can last: a store over a network may do
    what it was asked after its asker has given up, and then nobody knows of the row.

    A claim is released: nothing was paid. A settled row becomes a debt, which its payer may have
    run again at once. For a settlement whose outcome was lost the chain decides.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        settlement: Settlement,
        left: LeftRows,
        clock: Clock,
        worker: str,
        opening_seconds: float,
        run_seconds: float,
    ) -> None:
        self._ledger = ledger
        self._settlement = settlement
        self._left = left
        self._clock = clock
        self._worker = worker
        self._opening_seconds = opening_seconds
        self._run_seconds = run_seconds

    def round(self) -> Sequence[Thread]:
        """Take over what nobody works on, and decide it. Returns the threads that do.

        Each row has one of its own: a settlement may have to wait for a node and a facilitator, and
        no other row for that. Raises StoreUnavailable; what could not be taken now is taken in a
        later round.
        """
        due = self._left.due()
        taken = self._ledger.take_over(
            self._worker,
            due,
            ROWS_AT_ONCE,
            opening_seconds=self._opening_seconds + OVERDUE_SECONDS,
            run_seconds=self._run_seconds + OVERDUE_SECONDS,
        )
        if len(taken) < ROWS_AT_ONCE:  # else some of them may not have been looked at
            self._left.forget(due)
        hands = [
            Thread(target=self._decide, args=each, name=f"caretaker-{each[0].id}", daemon=True)
            for each in taken
        ]
        for each in hands:
            each.start()
        return hands

    def _decide(self, row: Execution, sealed_payment: str | None) -> None:
        name_execution(row.id)
        try:
            ended = self._end(row, sealed_payment)
        except Superseded:
            log.warning("row_lost", execution_id=row.id, state=row.state)
            metrics.TAKEN_OVER.labels("lost").inc()
            return
        except Exception as error:
            log.error("row_not_decided", execution_id=row.id, exception_type=type(error).__name__)
            ended = None
        if ended is None:
            age = self._clock.now() - row.created_at
            leave = self._left.leave_unasked if self._left.is_unasked(row) else self._left.leave
            leave(row, min(max(PAUSE_SECONDS, age / 10), LONGEST_PAUSE_SECONDS))
            metrics.TAKEN_OVER.labels("undecided").inc()
            return
        self._left.ended(row.id)
        metrics.TAKEN_OVER.labels(ended.state).inc()
        # A row may keep a facilitator's own word for why it did not settle.
        code = remembered(ended.code).code
        metrics.EXECUTIONS.labels(ended.kind, ended.state, code).inc()
        log.warning("row_decided", execution_id=row.id, state=ended.state, code=ended.code)

    def _end(self, row: Execution, sealed_payment: str | None) -> Execution | None:
        now = self._clock.now()
        if row.state is State.CLAIMED or self._left.is_unasked(row):
            return self._step(row, row.become(State.RELEASED, code=INTERRUPTED, ended_at=now))
        if row.state is State.SETTLING:
            decided = self._settlement.decide(row, sealed_payment)
            if decided is None:
                return None
            row = self._step(row, decided)
            note_settled(row)
            if row.state is State.RELEASED:
                return row
        # Nobody is here to be answered. What they are owed they may ask for at once.
        return self._step(row, row.fail(INTERRUPTED, now))

    def _step(self, before: Execution, after: Execution) -> Execution:
        self._ledger.swap(before, after)
        return after
