"""The table of what can happen to a payment, and to its row in which state."""

from itertools import chain, product

from tests.simulator.peers import SETTLING
from x402jobs.domain.execution import MAY_FOLLOW, State

UNKNOWN = "unknown"
"""The ledger has no row of this payment."""
EVERY = (UNKNOWN, *State)
OPEN = (State.CLAIMED, State.SETTLING, State.SETTLED)
AT_REST = (UNKNOWN, State.COMPLETED, State.REFUND_DUE, State.REFUNDED, State.RELEASED)
PAID_AT_REST = (State.COMPLETED, State.REFUND_DUE, State.REFUNDED)

AT_ANY_TIME = (
    "present",
    "present with another body",
    "forged",
    "caller leaves",
    "payer cancels",
    "payer spends it elsewhere",
    "paid out",
    "template edited",
    "template deleted",
    "purged",
    "asked to stop",
    "drained",
    "killed",
    "crash before",
    "crash after",
    "still before",
    "still after",
    "store down",
    "store answer lost",
    "store late",
)
"""The last ones happen to a worker on its way to a port, for a call about this payment."""

TABLE: frozenset[tuple[str, str]] = frozenset(
    chain(
        product(EVERY, AT_ANY_TIME),
        product(OPEN, ("taken over",)),
        product(AT_REST, ("a day passes",)),
        product(PAID_AT_REST, ("present after a day",)),
        ((State.SETTLING, f"settle: {fate}") for fate in SETTLING),
        ((State.SETTLING, f"chain: {word}") for word in ("unused", "unseen", "expired")),
        ((State.SETTLING, f"chain: {word}") for word in ("canceled", "spentelsewhere")),
        ((State.SETTLING, "chain: transferred"),),
        ((State.SETTLING, "money moves"),),
        # Asked by a worker that stood still while another one brought the row to its end.
        product((State.COMPLETED, State.REFUND_DUE), ("settle: late", "chain: transferred")),
        ((State.SETTLED, "chain: transferred"), (State.SETTLED, "settle: late")),
        ((State.RELEASED, "settle: late"),),
        ((State.RELEASED, f"chain: {word}") for word in ("canceled", "spentelsewhere")),
        ((UNKNOWN, f"-> {State.CLAIMED}"),),
        ((before, f"-> {after}") for before, afters in MAY_FOLLOW.items() for after in afters),
    )
)
