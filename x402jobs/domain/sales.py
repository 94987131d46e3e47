"""What a template has done: sums over the ledger's rows, never counters."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sales:
    """Of one template, all time. Money is in micro-USDC.

    `calls` were paid for, or free: `completed`, `failed`, and those still running. `tests` are the
    owner's and not among them; the tokens are of everything, since the creator's key paid for it.
    `revenue` is what reached the creator and was not paid back; `refunds_due` is the part of it
    that is owed for answers that broke off.
    """

    calls: int = 0
    completed: int = 0
    failed: int = 0
    tests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    revenue: int = 0
    refunds_due: int = 0

    @property
    def success_rate(self) -> float | None:
        """Completed calls among those that have ended, 0..1; None before the first."""
        ended = self.completed + self.failed
        return round(self.completed / ended, 4) if ended else None
