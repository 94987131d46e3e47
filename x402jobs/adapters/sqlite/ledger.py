"""The ledger: every step one compare-and-swap whose rows are counted."""

import json
import sqlite3
from dataclasses import fields
from typing import Any

from x402jobs.adapters.sqlite.database import Database
from x402jobs.domain.errors import Superseded
from x402jobs.domain.execution import Execution, Kind, State

COLUMNS = tuple(field.name for field in fields(Execution))
_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
_MARKS = ", ".join(f":{name}" for name in COLUMNS)
_ROW_STAYS = ("id", "claim_key", "attempt", "reruns")
_TAKEN_UP = ", ".join(f'"{name}" = excluded."{name}"' for name in COLUMNS if name not in _ROW_STAYS)
_SET = ", ".join(f'"{name}" = :{name}' for name in COLUMNS if name != "id")

_INSERT = f"INSERT INTO x402_executions ({_NAMES}) VALUES ({_MARKS})"
_CLAIM = f"""{_INSERT}
    ON CONFLICT (claim_key) DO UPDATE SET {_TAKEN_UP}, attempt = x402_executions.attempt + 1
    WHERE x402_executions.state = 'released'
    RETURNING {_NAMES}"""
_SWAP = f"""UPDATE x402_executions SET {_SET}, sealed_payment = CASE
        WHEN :state IN ('settling', 'settled') THEN coalesce(:sealed_payment, sealed_payment) END
    WHERE id = :id AND attempt = :attempt_before AND state = :state_before"""
_KEEP_ANSWER = """INSERT INTO x402_answers (execution_id, sealed_answer)
    VALUES (:id, :sealed_answer)"""


class SqliteLedger:
    """ports.Ledger over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, execution: Execution) -> Execution | None:
        with self._database.write() as connection:
            rows = connection.execute(_CLAIM, to_row(execution)).fetchall()
        return to_execution(rows[0]) if rows else None

    def swap(
        self,
        before: Execution,
        after: Execution,
        *,
        sealed_payment: str | None = None,
        sealed_answer: str | None = None,
    ) -> None:
        values = to_row(after) | {
            "attempt_before": before.attempt,
            "state_before": before.state,
            "sealed_payment": sealed_payment,
        }
        with self._database.write() as connection:
            if connection.execute(_SWAP, values).rowcount != 1:
                raise Superseded()
            if sealed_answer is not None:
                connection.execute(_KEEP_ANSWER, {"id": after.id, "sealed_answer": sealed_answer})

    def record(self, execution: Execution) -> None:
        with self._database.write() as connection:
            connection.execute(_INSERT, to_row(execution))

    def sealed_answer(self, execution: Execution) -> str | None:
        rows = self._database.read(
            "SELECT sealed_answer FROM x402_answers WHERE execution_id = ?", execution.id
        )
        return rows[0]["sealed_answer"] if rows else None


def to_row(execution: Execution) -> dict[str, Any]:
    """The columns of an execution."""
    row = {name: getattr(execution, name) for name in COLUMNS}
    return row | {"usage": json.dumps(row["usage"]) if row["usage"] is not None else None}


def to_execution(row: sqlite3.Row, prefix: str = "") -> Execution:
    """The execution a row holds, its columns named with the prefix."""
    values = {name: row[prefix + name] for name in COLUMNS}
    usage = values["usage"]
    return Execution(
        **values
        | {
            "kind": Kind(values["kind"]),
            "state": State(values["state"]),
            "usage": json.loads(usage) if usage is not None else None,
        }
    )
