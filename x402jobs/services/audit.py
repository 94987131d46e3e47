"""The ledger, for its operator: what is in it, what must never be, what was paid out by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from x402jobs.domain.errors import Conflict, InvalidRequest, NotFound, Superseded
from x402jobs.domain.execution import Execution, State
from x402jobs.domain.invariants import INVARIANTS, MONEY_MOVED, PLAY_MONEY, Broken
from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.domain.page import Page
from x402jobs.ports import Clock, Entry, Ledger, LedgerAudit, Transfer, Transfers


@dataclass(frozen=True)
class Report:
    """How many executions were looked at, by how many invariants, and those that do not hold."""

    executions: int
    invariants: int
    broken: Sequence[Broken]


class Audit:
    """May be asked while the shop sells: what is under way is not taken for a fault."""

    def __init__(
        self,
        rows: LedgerAudit,
        ledger: Ledger,
        clock: Clock,
        *,
        opening_seconds: float,
        run_seconds: float,
        play_money: Transfers | None,
    ) -> None:
        """`play_money` is the development ledger, where all the money is on it."""
        self._rows = rows
        self._ledger = ledger
        self._clock = clock
        self._opening_seconds = opening_seconds
        self._run_seconds = run_seconds
        self._play_money = play_money

    def check(self) -> Report:
        """Look at everything; changes nothing."""
        rules, began = dict(INVARIANTS), self._clock.now()
        findings = self._rows.findings(self._opening_seconds, self._run_seconds)
        found = dict(findings.broken)
        if self._play_money is not None:
            rules |= PLAY_MONEY
            # The rows first: a transfer is there before its row says so.
            rows, payouts = self._rows.paid_on(DEVELOPMENT.id), self._rows.payouts()
            found |= _compare(rows, payouts, self._play_money.transfers(), began)
        broken = [Broken(name, rule, found[name]) for name, rule in rules.items() if found[name]]
        return Report(findings.executions, len(rules), broken)

    def entries(
        self, limit: int, state: State | None = None, template: tuple[str, str] | None = None
    ) -> Page[Entry]:
        """Executions, newest first. Raises NotFound for a template that nobody knows."""
        page = self._rows.entries(limit, state=state, template=template)
        if template is not None and not page.total and not self._rows.has_template(*template):
            raise NotFound(f"There is no template @{'/'.join(template)}.")
        return page

    def entry(self, execution_id: str) -> Entry:
        """One execution, or NotFound."""
        entry = self._rows.entry(execution_id)
        if entry is None:
            raise NotFound(f"There is no execution {execution_id}.")
        return entry

    def pay_out(self, execution_id: str, transaction: str) -> Execution:
        """Write down that a debt was paid out by hand, in this transaction; moves no money.

        Said again with the same transaction it changes nothing. Raises NotFound, InvalidRequest
        for the payment's own transaction, or Conflict for whatever is not owed: the debt may have
        been run again, or paid out, by somebody else a moment ago.
        """
        row = self.entry(execution_id).execution
        if row.refund_transaction == transaction:
            return row
        if row.state is not State.REFUND_DUE:
            raise Conflict(_not_owed(row))
        if row.transaction is not None and row.transaction.lower() == transaction:
            raise InvalidRequest(f"{transaction} is the payment itself, not its pay-out.")
        try:
            self._ledger.swap(row, refunded := row.refund(transaction))
        except Superseded:
            row = self.entry(execution_id).execution
            if row.refund_transaction == transaction:
                return row
            raise Conflict(_not_owed(row)) from None
        return refunded


def _not_owed(row: Execution) -> str:
    if row.state is State.REFUNDED and row.refund_transaction:
        return f"Execution {row.id} has been refunded already, in {row.refund_transaction}."
    if row.state is State.REFUND_DUE:
        return f"Execution {row.id} was being run again a moment ago. Look again."
    return f"Execution {row.id} is {row.state}; only what is refund_due can be refunded."


def _compare(
    rows: Sequence[Execution], payouts: Sequence[str], transfers: Sequence[Transfer], began: float
) -> Mapping[str, Sequence[str]]:
    """The rows or transactions that break an invariant of `PLAY_MONEY`, by its name.

    A transfer that is younger than the check is left for the next one: its row was read before.
    """
    ours, creators = {_claim(row): row for row in rows if row.claim_key}, frozenset(payouts)
    moved = {f"{each.payer}:{each.nonce}": each for each in transfers}
    lost = []
    for claim, transfer in moved.items():
        row = ours.get(claim)
        if row is None and transfer.payee in creators and transfer.at < began:
            lost.append(transfer.transaction)
        elif row is not None and row.state is not State.SETTLING and row.state not in MONEY_MOVED:
            lost += [row.id] if transfer.at < began else []
    settled = [row for row in rows if row.state in MONEY_MOVED]
    matched = [(row, moved[_claim(row)]) for row in settled if _claim(row) in moved]
    return {
        "transfer_has_row": lost,
        "row_has_transfer": [row.id for row in settled if _claim(row) not in moved],
        "same_transaction": [row.id for row, it in matched if row.transaction != it.transaction],
        "same_amount": [row.id for row, it in matched if row.amount != it.value],
    }


def _claim(row: Execution) -> str:
    """Payer and nonce, the last two parts of a claim key (Payment.claim_key)."""
    return ":".join((row.claim_key or "").lower().split(":")[-2:])
