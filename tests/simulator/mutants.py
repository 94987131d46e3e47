"""Bugs to plant: what the checks must catch, each a rule of spec/money.md left out."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from tests.simulator.ledger import ModelLedger
from tests.simulator.peers import ModelSpeech
from x402jobs.domain.errors import Superseded
from x402jobs.domain.execution import Execution
from x402jobs.ports import Unknown
from x402jobs.services.left_rows import LeftRows, _Left
from x402jobs.services.paygate import Admission, Paygate
from x402jobs.services.recovery import Recovery
from x402jobs.services.settlement import Settlement


def claim_not_unique() -> AbstractContextManager[Any]:
    """The ledger takes a second row for the same authorization."""

    def claim(self: ModelLedger, execution: Execution) -> Execution:
        self._write(None, execution)
        return execution

    return patch.object(ModelLedger, "claim", claim)


def no_fence() -> AbstractContextManager[Any]:
    """A step is taken wherever the state is right, whoever has the row by now."""
    original = ModelLedger.swap

    def swap(self: ModelLedger, before: Execution, after: Execution, **sealed: Any) -> None:
        row = self.rows.get(before.id, before)
        original(self, replace(before, attempt=row.attempt), after, **sealed)

    return patch.object(ModelLedger, "swap", swap)


def lost_answer_is_failure() -> AbstractContextManager[Any]:
    """A settlement whose answer was lost is taken for one that has failed."""
    original = Settlement._wait_for_judgement

    def judge(self: Settlement, row: Execution, payment: Any, asked: Any, said: Any) -> Any:
        if isinstance(said, Unknown):
            return self._released(row, said.reason)
        return original(self, row, payment, asked, said)

    return patch.object(Settlement, "_wait_for_judgement", judge)


def truncated_is_complete() -> AbstractContextManager[Any]:
    """An answer that ends without Claude's end marker is taken for a whole one."""

    def cut_short(self: ModelSpeech) -> Iterator[str]:
        return iter(())

    return patch.object(ModelSpeech, "_cut_short", cut_short)


def no_take_over() -> AbstractContextManager[Any]:
    """Nobody comes for the rows of workers that are gone."""
    return patch.object(Recovery, "round", lambda self: [])


def held_for_ever() -> AbstractContextManager[Any]:
    """Who beats is thought to work on every row that is theirs."""
    return patch.object(ModelLedger, "is_overdue", lambda *_: False)


def double_rerun() -> AbstractContextManager[Any]:
    """Whoever comes second for a debt runs it as well."""
    original = Paygate._enter

    def enter(self: Paygate, template: Any, listing: Any, call: Any, *who: Any) -> Admission:
        try:
            return original(self, template, listing, call, *who)
        except Superseded:
            owed = listing.earlier.rerun(self._worker, call.began)
            return Admission(owed, self._clock.monotonic() + self._first_content_seconds)

    return patch.object(Paygate, "_enter", enter)


def older_leave_hides_newer() -> AbstractContextManager[Any]:
    """Who was overtaken by this worker's own recovery makes it forget the row."""

    def leave(self: LeftRows, execution: Execution, pause: float = 0.0) -> None:
        self._rows[execution.id] = _Left(execution.attempt, self._clock.monotonic() + pause)

    return patch.object(LeftRows, "leave", leave)


def refusal_without_the_row() -> AbstractContextManager[Any]:
    """Who has lost the claim meanwhile still tells its caller to pay once more."""
    original = Paygate._let_go

    def let_go(self: Paygate, admission: Any, error: Any) -> None:
        try:
            original(self, admission, error)
        except Superseded:
            pass

    return patch.object(Paygate, "_let_go", let_go)


MUTANTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    each.__name__: each
    for each in (
        claim_not_unique,
        no_fence,
        lost_answer_is_failure,
        truncated_is_complete,
        no_take_over,
        held_for_ever,
        double_rerun,
        older_leave_hides_newer,
        refusal_without_the_row,
    )
}
