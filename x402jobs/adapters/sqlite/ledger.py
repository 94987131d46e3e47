"""The ledger: every step one compare-and-swap whose rows are counted."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from x402jobs.adapters.rows import (
    COLUMNS,
    DAY_SECONDS,
    UNSEEN_SECONDS,
    columns_of,
    execution_of,
)
from x402jobs.adapters.sqlite.database import Database
from x402jobs.domain.errors import Superseded, TransferUsed
from x402jobs.domain.execution import Execution, State
from x402jobs.domain.page import Page
from x402jobs.domain.sales import Sales
from x402jobs.ports import OpenMatters

_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
_MARKS = ", ".join(f":{name}" for name in COLUMNS)
_ROW_STAYS = ("id", "claim_key", "attempt", "reruns")
_TAKEN_UP = ", ".join(f'"{name}" = excluded."{name}"' for name in COLUMNS if name not in _ROW_STAYS)

INDEXED = frozenset(
    {
        "id",
        "kind",
        "state",
        "worker",
        "claim_key",
        "template_id",
        "tile",
        "caller_id",
        "network",
        "transaction",
        "log_index",
        "created_at",
        "ended_at",
    }
)
"""Columns of indexes. SQLite rewrites each index whose columns an UPDATE names, also where nothing
in them changes: naming all cost a paid call a quarter of its pages. `opened_at` is not among them,
since it is noted between two steps and so is in both: it is always written."""

_INSERT = f"INSERT INTO x402_executions ({_NAMES}) VALUES ({_MARKS})"
_CLAIM = f"""{_INSERT}
    ON CONFLICT (claim_key) DO UPDATE SET {_TAKEN_UP}, attempt = x402_executions.attempt + 1
    WHERE x402_executions.state = 'released'
    RETURNING {_NAMES}"""
_BEGIN = f"""{_INSERT}
    ON CONFLICT (caller_id, tile) WHERE kind = 'task' AND state = 'claimed' DO NOTHING
    RETURNING id"""
_SWAP = """UPDATE x402_executions SET {changed}sealed_payment = CASE
        WHEN :state IN ('settling', 'settled') THEN coalesce(:sealed_payment, sealed_payment) END
    WHERE id = :id AND attempt = :attempt_before AND state = :state_before"""
_KEEP_ANSWER = """INSERT INTO x402_answers (execution_id, sealed_answer)
    VALUES (:id, :sealed_answer)"""


_CLOCK = "(julianday('now') - 2440587.5) * 86400.0"
_TAKE_OVER = f"""UPDATE x402_executions SET worker = :worker, attempt = attempt + 1
    WHERE state IN ('claimed', 'settling', 'settled') AND id IN (
        SELECT e.id FROM x402_executions e
        LEFT JOIN x402_workers w ON w.id = e.worker
        LEFT JOIN json_each(:left) l ON l.key = e.id
        WHERE e.state IN ('claimed', 'settling', 'settled') AND (
            (l.value = e.attempt AND e.worker = :worker)
            OR coalesce(w.seen_at, e.created_at) < {_CLOCK} - :unseen
            OR (e.state = 'claimed' AND e.created_at < {_CLOCK}
                - CASE e.kind WHEN 'task' THEN :run_seconds ELSE :opening_seconds END)
            OR (e.state = 'settled' AND max(
                e.created_at, coalesce(e.settled_at, e.created_at)) < {_CLOCK} - :run_seconds)
        )
        ORDER BY e.created_at LIMIT :limit
    )
    RETURNING {_NAMES}, sealed_payment"""
_PURGE = (
    # Answers are written as they end: only up to the first that is to be kept there are any that
    # have expired. One that was written while the clock was ahead does not stand for the others.
    """DELETE FROM x402_answers WHERE rowid < coalesce((
        SELECT a.rowid FROM x402_answers a JOIN x402_executions e ON e.id = a.execution_id
        WHERE e.ended_at BETWEEN :yesterday AND :yesterday + 86400
        ORDER BY a.rowid LIMIT 1
    ), 9223372036854775807) AND EXISTS (
        SELECT 1 FROM x402_executions e
        WHERE e.id = execution_id AND e.state = 'completed' AND e.ended_at < :yesterday
    )""",
    """DELETE FROM x402_executions
    WHERE kind = 'paid' AND state = 'released' AND opened_at IS NULL
        AND ended_at < :yesterday""",
    f"DELETE FROM x402_workers WHERE seen_at < {_CLOCK} - 86400",
)
_OPEN_MATTERS = f"""
    SELECT coalesce(SUM(state = 'settling'), 0) AS settling,
        coalesce(SUM(state = 'refund_due'), 0) AS refund_due,
        max(0.0, coalesce({_CLOCK} - MIN(CASE state WHEN 'settling' THEN created_at END), 0.0))
            AS oldest_settling_seconds
    FROM x402_executions WHERE state IN ('settling', 'refund_due')"""
_EXECUTION = """SELECT e.*, r.registered_by FROM x402_executions e
    LEFT JOIN x402_resources r ON r.id = e.template_id WHERE e.id = ?"""
# What ended `released` was not sold: a paid one cost nothing, an unpaid one failed.
_SALES = """
    SELECT template_id,
        SUM(sold) AS calls,
        SUM(sold AND state = 'completed') AS completed,
        SUM(sold AND state IN ('refund_due', 'refunded', 'released')) AS failed,
        SUM(kind = 'owner_test') AS tests,
        SUM(coalesce(json_extract(usage, '$.input_tokens'), 0)
            + coalesce(json_extract(usage, '$.cache_creation_input_tokens'), 0)
            + coalesce(json_extract(usage, '$.cache_read_input_tokens'), 0)) AS input_tokens,
        SUM(coalesce(json_extract(usage, '$.output_tokens'), 0)) AS output_tokens,
        SUM(amount * (state IN ('settled', 'completed', 'refund_due'))) AS revenue,
        SUM(amount * (state = 'refund_due')) AS refunds_due
    FROM (
        SELECT *, kind = 'free' OR (kind = 'paid' AND "transaction" IS NOT NULL) AS sold
        FROM x402_executions WHERE template_id IN (SELECT value FROM json_each(:ids))
            AND coalesce(network NOT IN (SELECT value FROM json_each(:uncounted)), TRUE)
    )
    GROUP BY template_id"""


class SqliteLedger:
    """ports.Ledger over SQLite.

    Two steps of a paid call are on the disk before anything follows: `settling`, before the money
    can move, and the ending, before `done` is said. A power cut may take away a claim, which nobody
    has paid for, and a `settled` until the next beat: it is `settling` again, which the chain
    decides as it does for a worker that died there (docs/decisions/0018).
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, execution: Execution) -> Execution | None:
        with self._database.write(durable=False) as connection:
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
        was, values = to_row(before), to_row(after)
        sql = _swap(n for n in COLUMNS if n not in INDEXED or values[n] != was[n])
        values |= {
            "attempt_before": before.attempt,
            "state_before": before.state,
            "sealed_payment": sealed_payment,
        }
        with self._database.write(durable=after.state is not State.SETTLED) as connection:
            try:
                swapped = connection.execute(sql, values).rowcount
            except sqlite3.IntegrityError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
                    raise TransferUsed() from None
                raise
            if swapped != 1:
                raise Superseded()
            if sealed_answer is not None:
                connection.execute(_KEEP_ANSWER, {"id": after.id, "sealed_answer": sealed_answer})

    def begin(self, task: Execution) -> bool:
        with self._database.write() as connection:
            return bool(connection.execute(_BEGIN, to_row(task)).fetchall())

    def earlier(self, claim_key: str) -> Execution | None:
        rows = self._database.read("SELECT * FROM x402_executions WHERE claim_key = ?", claim_key)
        return to_execution(rows[0]) if rows else None

    def record(self, execution: Execution) -> None:
        with self._database.write() as connection:
            connection.execute(_INSERT, to_row(execution))

    def beat(self, worker: str) -> None:
        with self._database.write() as connection:
            connection.execute(
                f"""INSERT INTO x402_workers (id, seen_at) VALUES (?, {_CLOCK})
                ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at""",
                (worker,),
            )

    def take_over(
        self,
        worker: str,
        left: Mapping[str, int],
        limit: int,
        *,
        opening_seconds: float,
        run_seconds: float,
    ) -> list[tuple[Execution, str | None]]:
        values = {
            "worker": worker,
            "left": json.dumps(dict(left)),
            "limit": limit,
            "unseen": UNSEEN_SECONDS,
            "opening_seconds": opening_seconds,
            "run_seconds": run_seconds,
        }
        with self._database.write() as connection:
            rows = connection.execute(_TAKE_OVER, values).fetchall()
        return [(to_execution(row), row["sealed_payment"]) for row in rows]

    def purge(self, now: float) -> int:
        with self._database.write() as connection:
            values = {"yesterday": now - DAY_SECONDS}
            return sum(connection.execute(sql, values).rowcount for sql in _PURGE)

    def open_matters(self) -> OpenMatters:
        (row,) = self._database.read(_OPEN_MATTERS)
        return OpenMatters(**dict(row))

    def sales(self, template_ids: Sequence[str], uncounted: Sequence[str] = ()) -> dict[str, Sales]:
        values = {"ids": json.dumps(list(template_ids)), "uncounted": json.dumps(list(uncounted))}
        with self._database.connection() as connection:
            rows = connection.execute(_SALES, values).fetchall()
        names = [field.name for field in fields(Sales)]
        return {row["template_id"]: Sales(**{each: row[each] for each in names}) for row in rows}

    def executions_of(
        self,
        limit: int,
        offset: int,
        *,
        template_id: str | None = None,
        caller_id: str | None = None,
    ) -> Page[Execution]:
        which = "template_id = :who" if template_id is not None else "caller_id = :who"
        # Anybody can sign what an empty wallet cannot pay: such claims are no news.
        which += " AND NOT (kind = 'paid' AND state = 'released' AND verified_at IS NULL)"
        with self._database.connection() as connection:
            rows = connection.execute(
                f"""WITH found AS (SELECT {_NAMES} FROM x402_executions WHERE {which}),
                shown AS (
                    SELECT * FROM found ORDER BY created_at DESC, id LIMIT :limit OFFSET :offset
                )
                SELECT (SELECT COUNT(*) FROM found) AS total, shown.*
                FROM (SELECT 1) LEFT JOIN shown ORDER BY created_at DESC, id""",
                {"who": template_id or caller_id, "limit": limit, "offset": offset},
            ).fetchall()
        shown = [to_execution(row) for row in rows if row["id"] is not None]
        return Page(shown, rows[0]["total"], limit, offset)

    def execution(self, execution_id: str) -> tuple[Execution, str | None] | None:
        rows = self._database.read(_EXECUTION, execution_id)
        return (to_execution(rows[0]), rows[0]["registered_by"]) if rows else None

    def sealed_answer(self, execution: Execution) -> str | None:
        rows = self._database.read(
            "SELECT sealed_answer FROM x402_answers WHERE execution_id = ?", execution.id
        )
        return rows[0]["sealed_answer"] if rows else None


def _swap(changed: Iterable[str]) -> str:
    """The swap that writes these columns."""
    return _SWAP.format(changed="".join(f'"{name}" = :{name}, ' for name in changed))


def to_row(execution: Execution) -> dict[str, Any]:
    """The columns of an execution."""
    row = columns_of(execution)
    return row | {"usage": json.dumps(row["usage"]) if row["usage"] is not None else None}


def to_execution(row: sqlite3.Row, prefix: str = "") -> Execution:
    """The execution a row holds, its columns named with the prefix."""
    values = {name: row[prefix + name] for name in COLUMNS}
    usage = values["usage"]
    return execution_of(values | {"usage": json.loads(usage) if usage is not None else None})
