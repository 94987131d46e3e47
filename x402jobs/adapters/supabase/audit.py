"""The ledger as its operator sees it: every row, and every invariant."""

from collections.abc import Mapping, Sequence
from typing import Any

from x402jobs.adapters.rows import execution_of
from x402jobs.adapters.supabase.database import Database
from x402jobs.domain.execution import Execution, State
from x402jobs.domain.invariants import INVARIANTS
from x402jobs.domain.page import Page
from x402jobs.ports import Entry, Findings

LONG_SECONDS = 60.0
"""To look at every row; an operator waits for that."""


class SupabaseAudit:
    """ports.LedgerAudit over Supabase."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def findings(self, opening_seconds: float, run_seconds: float) -> Findings:
        found = self._database.call(
            "x402_findings",
            patience=LONG_SECONDS,
            opening_seconds=opening_seconds,
            run_seconds=run_seconds,
        )
        broken = {name: found["broken"].get(name, []) for name in INVARIANTS}
        return Findings(found["executions"], broken)

    def paid_on(self, network: str) -> Sequence[Execution]:
        rows = self._database.call("x402_paid_on", patience=LONG_SECONDS, on_network=network)
        return [execution_of(row) for row in rows]

    def payouts(self) -> Sequence[str]:
        addresses: list[str] = self._database.call("x402_payouts")
        return addresses

    def entries(
        self, limit: int, *, state: State | None = None, template: tuple[str, str] | None = None
    ) -> Page[Entry]:
        username, slug = template or (None, None)
        found = self._database.call(
            "x402_entries", in_state=state, of_username=username, of_slug=slug, at_most=limit
        )
        return Page([_entry(each) for each in found["items"]], found["total"], limit, 0)

    def entry(self, execution_id: str) -> Entry | None:
        found = self._database.call("x402_entry", of_execution=execution_id)
        return _entry(found) if found is not None else None

    def has_template(self, username: str, slug: str) -> bool:
        known: bool = self._database.call("x402_has_template", of_username=username, of_slug=slug)
        return known


def _entry(found: Mapping[str, Any]) -> Entry:
    return Entry(execution_of(found["execution"]), found["username"], found["slug"])
