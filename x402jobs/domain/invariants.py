"""What must always hold of the ledger (spec/money.md, research/reliability.md 4.4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from x402jobs.domain.execution import State

GRACE_SECONDS = 120
"""So long after its own time limit a row may still be on its way to its ending."""

MONEY_MOVED = frozenset({State.SETTLED, State.COMPLETED, State.REFUND_DUE, State.REFUNDED})
"""The states of a paid row whose transfer is known."""

INVARIANTS: Mapping[str, str] = {
    "words_known": "A row's kind and state are among those we know.",
    "one_row_per_claim": "No two rows share a claim key.",
    "one_row_per_transfer": "No two rows share a transfer: network, transaction and log index.",
    "paid_has_claim": "A paid row has its claim key, payer and network.",
    "paid_has_transfer": (
        "A paid row from settled on has its transaction, an amount, and the time of settling."
    ),
    "unpaid_moves_nothing": (
        "A row that is not paid has no claim, transaction or amount, and has ended, or is a task."
    ),
    "task_has_tile": "A task, and nothing else, has a tile; it has a caller.",
    "one_run_per_tile": "Nobody has two runs of the same tile that have not ended.",
    "claimed_ends": (
        "A claim whose worker is gone is released within 120 s of the time it had: a paid call's "
        "to open, a task's to end."
    ),
    "settling_ends": "A settlement is decided within 120 s of the payment's `validBefore`.",
    "settled_ends": "A settled row is completed or owed within 120 s of the run's time limit.",
    "settling_has_payment": "A settling row has its sealed payment: recovery must ask with it.",
    "payment_erased": "A sealed payment rests on settling and settled rows alone.",
    "answer_kept": "The answer of a completed paid row, or task, is kept for 24 h.",
    "answer_was_bought": "An answer belongs to a completed paid row, or task.",
    "completed_is_whole": (
        "A completed row has the model, its usage, its stop reason and the time of its ending."
    ),
    "reruns_in_range": "A debt is run again at most 3 times.",
    "attempts_count_reruns": "A row has at least one attempt, and one more for each re-run.",
    "released_unpaid": "A released row has no transaction.",
    "refund_noted": "A refunded row names the transaction that paid it out; no other row does.",
    "money_is_integer": "Amounts and prices are whole micro-USDC, and not below nothing.",
    "template_exists": "The template of every execution but a task is there, deleted or not.",
}
"""By name, what every store is looked through for."""

PLAY_MONEY: Mapping[str, str] = {
    "transfer_has_row": (
        "A transfer to one of our creators belongs to a row in settling or a later state."
    ),
    "row_has_transfer": "A paid row from settled on has its transfer on the development ledger.",
    "same_transaction": "A row names the transaction of its own transfer.",
    "same_amount": "A row's amount is what its transfer has moved, so that their sums agree.",
}
"""What holds in addition where the development ledger has all the money."""


@dataclass(frozen=True)
class Broken:
    """An invariant that does not hold, and the ids of the rows (or transactions) concerned."""

    name: str
    rule: str
    rows: Sequence[str]
