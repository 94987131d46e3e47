"""The ledger: every step one compare-and-swap, in one request."""

import json
from collections.abc import Mapping, Sequence

from x402jobs.adapters.rows import columns_of, execution_of
from x402jobs.adapters.supabase.database import Database
from x402jobs.domain.errors import Superseded, TransferUsed
from x402jobs.domain.execution import Execution
from x402jobs.domain.page import Page
from x402jobs.domain.sales import Sales
from x402jobs.ports import OpenMatters


class SupabaseLedger:
    """ports.Ledger over Supabase."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._heard: dict[str, int] = {}
        """What the last take-over that was answered has brought; the next one says so."""

    def claim(self, execution: Execution) -> Execution | None:
        standing = self._database.write("x402_claim", execution=_json(execution))
        return execution_of(standing) if standing is not None else None

    def swap(
        self,
        before: Execution,
        after: Execution,
        *,
        sealed_payment: str | None = None,
        sealed_answer: str | None = None,
    ) -> None:
        outcome = self._database.write(
            "x402_swap",
            execution=_json(after),
            attempt_before=before.attempt,
            state_before=before.state,
            payment=sealed_payment,
            answer=sealed_answer,
        )
        if outcome == "transfer_used":
            raise TransferUsed()
        if outcome != "swapped":
            raise Superseded()

    def begin(self, task: Execution) -> bool:
        return bool(self._database.write("x402_begin", execution=_json(task)))

    def earlier(self, claim_key: str) -> Execution | None:
        row = self._database.call("x402_earlier", paid_with=claim_key)
        return execution_of(row) if row is not None else None

    def record(self, execution: Execution) -> None:
        self._database.write("x402_record", execution=_json(execution))

    def beat(self, worker: str) -> None:
        self._database.call("x402_beat", worker=worker)

    def take_over(
        self,
        worker: str,
        left: Mapping[str, int],
        limit: int,
        *,
        opening_seconds: float,
        run_seconds: float,
    ) -> list[tuple[Execution, str | None]]:
        rows = self._database.call(
            "x402_take_over",
            taker=worker,
            given_up=json.dumps(dict(left)),
            heard=json.dumps(self._heard),
            at_most=limit,
            opening_seconds=opening_seconds,
            run_seconds=run_seconds,
        )
        taken = [(execution_of(row["execution"]), row["sealed_payment"]) for row in rows]
        self._heard = {row.id: row.attempt for row, _ in taken}
        return taken

    def purge(self, now: float) -> int:
        return int(self._database.call("x402_purge", moment=now))

    def open_matters(self) -> OpenMatters:
        return OpenMatters(**self._database.call("x402_open_matters"))

    def sales(self, template_ids: Sequence[str], uncounted: Sequence[str] = ()) -> dict[str, Sales]:
        sold = self._database.call(
            "x402_sales", templates=list(template_ids), uncounted=list(uncounted)
        )
        return {id: Sales(**figures) for id, figures in sold.items()}

    def executions_of(
        self,
        limit: int,
        offset: int,
        *,
        template_id: str | None = None,
        caller_id: str | None = None,
    ) -> Page[Execution]:
        page = self._database.call(
            "x402_executions_of",
            template=template_id,
            caller=caller_id,
            at_most=limit,
            skipped=offset,
        )
        return Page([execution_of(each) for each in page["items"]], page["total"], limit, offset)

    def execution(self, execution_id: str) -> tuple[Execution, str | None] | None:
        found = self._database.call("x402_execution", execution_id=execution_id)
        return (execution_of(found["execution"]), found["creator"]) if found is not None else None

    def sealed_answer(self, execution: Execution) -> str | None:
        answer: str | None = self._database.call("x402_sealed_answer", of_execution=execution.id)
        return answer


def _json(execution: Execution) -> str:
    return json.dumps(columns_of(execution))
