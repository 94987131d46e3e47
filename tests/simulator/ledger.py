"""ports.Ledger and the one read of ports.Catalogue that a call makes, in dicts.

The rules are the embedded store's; tests/test_simulator.py holds the two against each other.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from x402jobs.domain.errors import StoreUnavailable, Superseded, TransferUsed
from x402jobs.domain.execution import MAX_RERUNS, Execution, Kind, State
from x402jobs.domain.listing import Listing, StoredTemplate

UNSEEN_SECONDS = 15
DAY_SECONDS = 24 * 3600
OPEN = frozenset({State.CLAIMED, State.SETTLING, State.SETTLED})
KEEPS_PAYMENT = frozenset({State.SETTLING, State.SETTLED})
MOVED = frozenset({State.SETTLED, State.COMPLETED, State.REFUND_DUE, State.REFUNDED})

Observer = Callable[[Execution | None, Execution], None]
"""Told of every row that is written: what it was, what it is."""


class ModelLedger:
    """Every method happens at once. Latency, crashes and troubles are the worker's line's."""

    def __init__(self, now: Callable[[], float], observe: Observer = lambda _, __: None) -> None:
        self.rows: dict[str, Execution] = {}
        self.claims: dict[str, str] = {}
        self.payments: dict[str, str | None] = {}
        self.answers: dict[str, str] = {}
        self.seen: dict[str, float] = {}
        self.open: dict[str, None] = {}
        self._now = now
        self._observe = observe

    def earlier(self, claim_key: str | None) -> Execution | None:
        """What the ledger knows about a payment."""
        return self.rows.get(self.claims.get(claim_key or "", ""))

    def claim(self, execution: Execution) -> Execution | None:
        row = self.earlier(execution.claim_key)
        if row is None:
            if execution.id in self.rows:
                raise StoreUnavailable()
        elif row.state is not State.RELEASED:
            return None
        else:
            execution = replace(execution, id=row.id, attempt=row.attempt + 1, reruns=row.reruns)
        self._write(row, execution)
        return execution

    def swap(
        self,
        before: Execution,
        after: Execution,
        *,
        sealed_payment: str | None = None,
        sealed_answer: str | None = None,
    ) -> None:
        row = self.rows.get(before.id)
        if row is None or (row.attempt, row.state) != (before.attempt, before.state):
            raise Superseded()
        self._step(row, after, sealed_payment, sealed_answer)

    def take_over(
        self,
        worker: str,
        left: Mapping[str, int],
        limit: int,
        *,
        opening_seconds: float,
        run_seconds: float,
    ) -> list[tuple[Execution, str | None]]:
        if not self.open:
            return []
        now = self._now()
        unseen = now - UNSEEN_SECONDS
        found = [
            row
            for row in (self.rows[id] for id in self.open)
            if (left.get(row.id) == row.attempt and row.worker == worker)
            or self.seen.get(row.worker, row.created_at) < unseen
            or self.is_overdue(row, now, opening_seconds, run_seconds)
        ]
        found.sort(key=lambda row: row.created_at)
        taken = []
        for row in found[:limit]:
            after = replace(row, worker=worker, attempt=row.attempt + 1)
            self._write(row, after)
            taken.append((after, self.payments.get(row.id)))
        return taken

    def beat(self, worker: str) -> None:
        self.seen[worker] = self._now()

    def purge(self, now: float) -> int:
        yesterday, gone = now - DAY_SECONDS, 0
        for row in list(self.rows.values()):
            if row.state is State.COMPLETED and (row.ended_at or 0) < yesterday:
                gone += self.answers.pop(row.id, None) is not None
            elif (
                row.state is State.RELEASED
                and row.kind is Kind.PAID
                and row.opened_at is None
                and (row.ended_at or 0) < yesterday
            ):
                del self.rows[row.id], self.claims[row.claim_key or ""]
                gone += 1
        for worker, seen_at in list(self.seen.items()):
            if seen_at < self._now() - DAY_SECONDS:
                del self.seen[worker]
                gone += 1
        return gone

    def sealed_answer(self, execution: Execution) -> str | None:
        return self.answers.get(execution.id)

    def is_overdue(
        self, row: Execution, now: float, opening_seconds: float, run_seconds: float
    ) -> bool:
        """Whether it is held longer than it can last."""
        if row.state is State.CLAIMED:
            lasts = run_seconds if row.kind is Kind.TASK else opening_seconds
            return row.created_at < now - lasts
        began = max(row.created_at, row.settled_at or row.created_at)
        return row.state is State.SETTLED and began < now - run_seconds

    def _step(
        self, row: Execution, after: Execution, payment: str | None, answer: str | None
    ) -> None:
        self._check(after)
        if answer is not None and after.id in self.answers:
            raise StoreUnavailable()
        if after.state not in KEEPS_PAYMENT:
            self.payments.pop(after.id, None)
        elif payment is not None:
            self.payments[after.id] = payment
        if answer is not None:
            self.answers[after.id] = answer
        self._put(row, after)

    def _write(self, before: Execution | None, after: Execution) -> None:
        self._check(after)
        self._put(before, after)

    def _put(self, before: Execution | None, after: Execution) -> None:
        self.rows[after.id] = after
        if after.claim_key is not None:
            self.claims[after.claim_key] = after.id
        if after.state in OPEN:
            self.open[after.id] = None
        else:
            self.open.pop(after.id, None)
        self._observe(before, after)

    def _check(self, row: Execution) -> None:
        """The store's own constraints."""
        if not self._is_possible(row):
            raise StoreUnavailable()
        if row.log_index is None:
            return
        transfer = (row.network, row.transaction, row.log_index)
        for other in self.rows.values():
            if other.id != row.id and transfer == (
                other.network,
                other.transaction,
                other.log_index,
            ):
                raise TransferUsed()

    def _is_possible(self, row: Execution) -> bool:
        return (
            (row.kind is not Kind.PAID or None not in (row.claim_key, row.payer, row.network))
            and (row.kind is not Kind.PAID or row.amount > 0)
            and (row.state not in MOVED or row.transaction is not None)
            and 0 <= row.reruns <= MAX_RERUNS
        )


class ModelCatalogue:
    """One creator's one address: what stands there, and everything that ever did."""

    def __init__(self, ledger: ModelLedger, template: StoredTemplate, key: str, pay_to: str):
        self._ledger = ledger
        self._templates = {template.id: template}
        self._key = key
        self._pay_to = pay_to
        self.template: StoredTemplate | None = template

    def put(self, template: StoredTemplate) -> None:
        """Save it."""
        self._templates[template.id] = template
        self.template = template

    def delete(self) -> None:
        """Nothing stands at the address any more; its row stays."""
        self.template = None

    def listing(self, username: str, slug: str, claim_key: str | None) -> Listing:
        earlier = self._ledger.earlier(claim_key)
        is_debt = earlier is not None and earlier.state is State.REFUND_DUE
        owed = self._templates.get(earlier.template_id) if earlier and is_debt else None
        return Listing(
            self.template, self._key, self._pay_to, earlier, owed, self._key if owed else None
        )
