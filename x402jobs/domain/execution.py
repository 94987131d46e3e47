"""One row of the ledger, and the only place that knows which state may follow which."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.domain.payment import Credit, Receipt

MAX_RERUNS = 3


class Kind(StrEnum):
    """Why a template runs, or that it is no template but a tile."""

    PAID = "paid"
    FREE = "free"
    OWNER_TEST = "owner_test"
    TASK = "task"


class State(StrEnum):
    """The seven states; recovery treats each differently (spec/money.md)."""

    CLAIMED = "claimed"
    SETTLING = "settling"
    SETTLED = "settled"
    COMPLETED = "completed"
    REFUND_DUE = "refund_due"
    REFUNDED = "refunded"
    RELEASED = "released"


MAY_FOLLOW: Mapping[State, frozenset[State]] = {
    State.CLAIMED: frozenset({State.SETTLING, State.RELEASED}),
    State.SETTLING: frozenset({State.SETTLED, State.RELEASED}),
    State.SETTLED: frozenset({State.COMPLETED, State.REFUND_DUE}),
    State.COMPLETED: frozenset(),
    State.REFUND_DUE: frozenset({State.SETTLED, State.REFUNDED}),
    State.REFUNDED: frozenset(),
    State.RELEASED: frozenset({State.CLAIMED}),
}
UNPAID_MAY_FOLLOW: Mapping[State, frozenset[State]] = {
    State.CLAIMED: frozenset({State.COMPLETED, State.RELEASED}),
}
"""Where there is no money there is nothing between the beginning and the ending.

A free run or an owner's test is one insert, at its end. A task has its row from the beginning:
while that is claimed, nobody starts the same tile a second time.
"""


@dataclass(frozen=True)
class Execution:
    """One run of a template, and the money that bought it; or of a task's tile, by its coordinates.

    `amount` is in micro-USDC, times are unix seconds. `attempt` is the fence: it grows whenever
    anybody takes the row, and every step is a compare-and-swap on (id, attempt, state).
    `claim_key` is None unless the run is paid; `caller_id` is the account that was signed in, if
    any. `created_at` is when the request arrived, `refund_transaction` where a debt was paid out.
    """

    id: str
    kind: Kind
    state: State
    template_id: str | None
    template_version: int | None
    digest: str
    worker: str
    created_at: float
    attempt: int = 1
    claim_key: str | None = None
    tile: str | None = None
    caller_id: str | None = None
    payer: str | None = None
    network: str | None = None
    amount: int = 0
    valid_before: int | None = None
    transaction: str | None = None
    log_index: int | None = None
    refund_transaction: str | None = None
    reruns: int = 0
    model: str | None = None
    usage: Mapping[str, object] | None = None
    stop_reason: str | None = None
    code: str | None = None
    verified_at: float | None = None
    opened_at: float | None = None
    settled_at: float | None = None
    ended_at: float | None = None

    def become(self, state: State, **facts: object) -> "Execution":
        """The same execution one lawful step later. Raises ValueError for an unlawful one."""
        lawful = MAY_FOLLOW if self.kind is Kind.PAID else UNPAID_MAY_FOLLOW
        if state not in lawful.get(self.state, ()):
            raise ValueError(f"{state} may not follow {self.state}")
        return replace(self, state=state, **facts)  # type: ignore[arg-type]

    def fail(self, code: str, now: float, **facts: object) -> "Execution":
        """The ending without an answer: a debt when money moved, else nothing."""
        ending = State.REFUND_DUE if self.kind is Kind.PAID else State.RELEASED
        return self.become(ending, code=code, ended_at=now, **facts)

    def forgo(self, code: str, now: float) -> "Execution":
        """Given back, paid for, before Claude had said a word: the debt keeps its re-run."""
        return replace(self.fail(code, now), reruns=max(0, self.reruns - 1))

    def rerun(self, worker: str, now: float) -> "Execution":
        """A debt taken up again: the same payment runs once more, and settles nothing."""
        if self.state is not State.REFUND_DUE or self.reruns >= MAX_RERUNS:
            raise ValueError("only a debt with re-runs left runs again")
        return replace(
            self.become(State.SETTLED, code=None, ended_at=None),
            attempt=self.attempt + 1,
            reruns=self.reruns + 1,
            worker=worker,
            created_at=now,
        )

    def refund(self, transaction: str) -> "Execution":
        """A debt paid out by hand: the same payment buys nothing any more."""
        return self.become(State.REFUNDED, refund_transaction=transaction)

    @property
    def receipt(self) -> Receipt | None:
        """Proof of the transfer, or None when nothing was paid."""
        if self.transaction is None or self.payer is None or self.network is None:
            return None
        development = self.network == DEVELOPMENT.id
        return Receipt(self.transaction, self.network, self.payer, self.amount, development)

    @property
    def credit(self) -> Credit | None:
        """What is owed, or None when nothing is."""
        if self.state is not State.REFUND_DUE:
            return None
        return Credit(self.amount, MAX_RERUNS - self.reruns)

    @property
    def input_tokens(self) -> int | None:
        """Everything Claude read, cached or not; None where Claude has not said."""
        return self._tokens(
            "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"
        )

    @property
    def output_tokens(self) -> int | None:
        """Everything Claude wrote; None where Claude has not said."""
        return self._tokens("output_tokens")

    def _tokens(self, *names: str) -> int | None:
        counts = [(self.usage or {}).get(name) for name in names]
        known = [count for count in counts if isinstance(count, int)]
        return sum(known) if known else None

    @property
    def duration_ms(self) -> int:
        """Milliseconds from the request to the ending; 0 before there is one."""
        return 0 if self.ended_at is None else round((self.ended_at - self.created_at) * 1000)
