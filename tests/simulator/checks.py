"""What must hold after every step, and when everything has come to rest."""

from typing import TYPE_CHECKING, Any

from tests.simulator.ledger import MOVED
from tests.simulator.peers import Case
from x402jobs.domain.call import Call
from x402jobs.domain.errors import PaymentRequired, X402JobsError
from x402jobs.domain.events import Done, Failed
from x402jobs.domain.execution import MAX_RERUNS, MAY_FOLLOW, Execution, State

if TYPE_CHECKING:
    from tests.simulator.history import History

UNKNOWN_OR_PAID = MOVED | {State.SETTLING}
ALWAYS = frozenset({"STORE_UNAVAILABLE"})
"""What anybody may hear whose request met a store that was down."""
AT_RECALL = {
    State.CLAIMED: ("IN_PROGRESS", "CONFLICT"),
    State.SETTLING: ("SETTLEMENT_UNKNOWN", "SETTLEMENT_UNKNOWN"),
    State.SETTLED: ("IN_PROGRESS", "CONFLICT"),
    State.COMPLETED: ("ANSWER_EXPIRED", "CONFLICT"),
    State.REFUNDED: ("CONFLICT", "CONFLICT"),
}
"""spec/money.md, Presenting a payment again: the refusal for the same body, and for another."""


class Checks:
    """Each has a name, by which a history that breaks it is reported."""

    def __init__(self, history: "History") -> None:
        self._history = history
        self._rows: dict[str, str] = {}
        self.broken: list[tuple[str, str]] = []

    def breaks(self, name: str, how: str) -> None:
        """Write it down; the history goes on."""
        self._history.schedule.say(f"BROKEN {name}: {how}")
        self.broken.append((name, how))

    # after each step

    def wrote(self, case: Case, before: Execution | None, after: Execution) -> None:
        """A row has been written."""
        which = f"payment {case.number}, {before and before.state} -> {after.state}"
        if self._rows.setdefault(after.claim_key or "", after.id) != after.id:
            self.breaks("one row per claim", which)
        if before is not None:
            self._stepped(case, before, after, which)
        if after.state in MOVED:
            moved = case.transfer
            if moved is None:
                self.breaks("paid means transferred", which)
            elif (after.transaction, after.log_index) != moved[:2]:
                self.breaks("the row names its own transfer", which)
        if after.state is State.RELEASED and case.transfer is not None:
            self.breaks("released means that no money moved", which)
        if after.state is State.COMPLETED and before is not None:
            answer = self._answer(after)
            if answer not in case.told:
                self.breaks("completed means that Claude's end marker was seen", repr(answer))
        if after.reruns > MAX_RERUNS or case.reruns - case.forgone > MAX_RERUNS:
            self.breaks("at most three free re-runs", which)

    def _stepped(self, case: Case, before: Execution, after: Execution, which: str) -> None:
        if after.attempt < before.attempt:
            self.breaks("the fence never falls", which)
        if before.state is after.state:
            if after.attempt == before.attempt:
                self.breaks("every step is lawful", which)
        elif after.state not in MAY_FOLLOW[before.state]:
            self.breaks("every step is lawful", which)
        if (before.state, after.state) == (State.REFUND_DUE, State.SETTLED):
            case.reruns += 1
        if (before.state, after.state) == (State.SETTLED, State.REFUND_DUE):
            case.forgone += before.reruns - after.reruns

    def moved(self, case: Case) -> None:
        """Money has moved; that it does so once is the chain's own rule."""
        row = self._history.ledger.earlier(case.payment.claim_key)
        if row is None or row.state not in (State.SETTLING, *MOVED):
            self.breaks("money moves in settling alone", f"{row and row.state}")

    def served(self, case: Case, call: Call, forged: bool) -> None:
        """Bytes of an answer have left."""
        if case.transfer is None:
            self.breaks("no byte before the money", f"payment {case.number}")
        row = self._history.ledger.earlier(case.payment.claim_key)
        if forged or row is None or row.digest != call.digest:
            self.breaks("only the payer, for what was asked, is answered", f"{case.number}")
        self._count_runs(case)

    def heard(self, case: Case, ending: Done | Failed, text: str) -> None:
        """A caller's stream has ended."""
        row = self._history.ledger.rows[ending.execution.id]
        if isinstance(ending, Done):
            if row.state is not State.COMPLETED:
                self.breaks("done means durable", f"payment {case.number} is {row.state}")
            answer = self._answer(row)
            if text not in case.told or answer is not None and text != answer:
                self.breaks("done means the whole answer", f"{text!r}, not {answer!r}")
        self._count_runs(case)

    def refused(
        self, case: Case, call: Any, same: bool, forged: bool, error: X402JobsError
    ) -> None:
        """A caller has heard an error before any byte; `call.seen` is the row as it was found."""
        seen = call.seen
        if isinstance(error, PaymentRequired) and not forged:
            self._asked_to_pay(case, call, error)
        if type(error) is X402JobsError:
            self.breaks("no fault of ours", repr(error))
        if forged:
            if error.execution is not None or error.code in ("CONFLICT", "IN_PROGRESS"):
                self.breaks("a forgery knows nothing", error.code)
        elif seen is not None and error.code not in ALWAYS:
            self._was_told(seen, same, error)

    def _asked_to_pay(self, case: Case, call: Any, error: PaymentRequired) -> None:
        """No other payment is asked for while this one may count.

        A refusal is let pass, and counted, that was true when it was written down or last looked
        at, and was on its way to the caller while they presented the payment once more.
        """
        row = self._history.ledger.earlier(case.payment.claim_key)
        if row is None or row.state not in UNKNOWN_OR_PAID:
            return
        if call.has_released or call.found_free:
            self._history.counts["402 overtaken on its way"] += 1
        else:
            self.breaks("no fresh 402 while unknown or paid", f"{row.state}: {error}")

    def _was_told(self, seen: Execution, same: bool, error: X402JobsError) -> None:
        what = f"{seen.state}, {'same' if same else 'other'} body: {error.code}"
        if seen.state is State.REFUND_DUE:
            is_used_up = seen.reruns >= MAX_RERUNS
            if (error.code == "CONFLICT") is not (is_used_up or not same):
                self.breaks("what is told of a payment that is known", what)
        elif seen.state in AT_RECALL and error.code != AT_RECALL[seen.state][not same]:
            self.breaks("what is told of a payment that is known", what)

    def _count_runs(self, case: Case) -> None:
        if case.runs > 1 + case.reruns:
            self.breaks(
                "one run, and one for each re-run recorded",
                f"payment {case.number}: {case.runs} runs, {case.reruns} re-runs",
            )

    # at rest

    def at_rest(self) -> None:
        """Everybody has had their time."""
        history = self._history
        ledger = history.ledger
        for id in ledger.open:
            row = ledger.rows[id]
            self.breaks("everything ends", f"{row.state}, attempt {row.attempt}, {row.worker}")
        if history.schedule.actors:
            self.breaks("nobody waits for ever", f"{history.schedule.actors} threads")
        for case in history.cases:
            row = ledger.earlier(case.payment.claim_key)
            self._count_runs(case)
            if case.transfer is not None and (row is None or row.state not in MOVED):
                self.breaks("paid means answered or owed", f"{row and row.state}")
            if row is not None:
                history.counts[f"ended {row.state}"] += 1

    def came_back(self, case: Case, was: Execution, reply: Any) -> None:
        """Somebody who has paid has presented the payment once more, in calm weather."""
        row = self._history.ledger.rows[was.id]
        said = f"{was.state}, {was.reruns} re-runs: {reply.code}"
        if was.state is State.COMPLETED and reply.code == "ANSWER_EXPIRED":
            age = self._history.schedule.now - (was.ended_at or 0)
            if age < 24 * 3600:
                self.breaks("an answer is kept for a day", said)
        elif was.state is State.COMPLETED or (
            was.state is State.REFUND_DUE and was.reruns < MAX_RERUNS
        ):
            is_stored = row.state is State.COMPLETED and reply.text == self._answer(row)
            if reply.code != "done" or not is_stored:
                self.breaks("who has paid gets the answer", f"{said} {reply.text!r}")
        elif reply.code != "CONFLICT":
            self.breaks("what is told of a payment that is known", said)
        self._count_runs(case)

    def purged(self) -> None:
        """What had reached settling is still there."""
        for case in self._history.cases:
            if case.transfer and self._history.ledger.earlier(case.payment.claim_key) is None:
                self.breaks("what was paid is never forgotten", f"payment {case.number}")

    def nothing_broke(self, broken: list[str]) -> None:
        """Nothing was met that the services have no name for."""
        for each in broken:
            self.breaks("no fault of ours", each)

    def _answer(self, row: Execution) -> str | None:
        sealed = self._history.ledger.answers.get(row.id)
        return sealed.split("|", 4)[4] if sealed is not None else None
