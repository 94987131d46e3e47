"""The ledger as its operator sees it: every row, and every invariant as SQL."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from x402jobs.adapters.rows import COLUMNS, DAY_SECONDS, UNSEEN_SECONDS
from x402jobs.adapters.sqlite.database import Database
from x402jobs.adapters.sqlite.ledger import to_execution
from x402jobs.domain.execution import MAX_RERUNS, Execution, State
from x402jobs.domain.invariants import GRACE_SECONDS
from x402jobs.domain.page import Page
from x402jobs.ports import Entry, Findings

_NOW = "(julianday('now') - 2440587.5) * 86400.0"
_MOVED = "state IN ('settled', 'completed', 'refund_due', 'refunded')"
_STATES = ", ".join(f"'{state}'" for state in State)
_NAMES = ", ".join(f'e."{name}"' for name in COLUMNS)

# Each selects the ids of the rows that break the invariant of its name. None of them trusts a
# constraint of the schema: a restored or repaired file may have lost it.
_BREAKING = {
    "words_known": f"""
        SELECT id FROM x402_executions
        WHERE kind NOT IN ('paid', 'free', 'owner_test', 'task') OR state NOT IN ({_STATES})""",
    # Keys and hashes are hex: what differs by letter case alone is the same.
    "one_row_per_claim": """
        SELECT id FROM (
            SELECT id, COUNT(*) OVER (PARTITION BY lower(claim_key)) AS sharing
            FROM x402_executions WHERE claim_key IS NOT NULL
        ) WHERE sharing > 1""",
    # Without a chain there is no log index, and then a transaction alone names the transfer.
    "one_row_per_transfer": """
        SELECT id FROM (
            SELECT id, COUNT(*) OVER (
                PARTITION BY lower(network), lower("transaction"), log_index
            ) AS sharing
            FROM x402_executions WHERE "transaction" IS NOT NULL
        ) WHERE sharing > 1""",
    "paid_has_claim": """
        SELECT id FROM x402_executions
        WHERE kind = 'paid' AND (claim_key IS NULL OR payer IS NULL OR network IS NULL)""",
    "paid_has_transfer": f"""
        SELECT id FROM x402_executions WHERE kind = 'paid' AND {_MOVED}
            AND ("transaction" IS NULL OR amount <= 0 OR settled_at IS NULL)""",
    "unpaid_moves_nothing": """
        SELECT id FROM x402_executions WHERE kind <> 'paid' AND (
            claim_key IS NOT NULL OR "transaction" IS NOT NULL OR amount <> 0
            OR state NOT IN ('completed', 'released') AND NOT (kind = 'task' AND state = 'claimed')
        )""",
    "task_has_tile": """
        SELECT id FROM x402_executions WHERE (kind = 'task') <> (tile IS NOT NULL)
            OR kind = 'task' AND caller_id IS NULL""",
    "one_run_per_tile": """
        SELECT id FROM (
            SELECT id, COUNT(*) OVER (PARTITION BY caller_id, tile) AS sharing
            FROM x402_executions WHERE kind = 'task' AND state = 'claimed'
        ) WHERE sharing > 1""",
    "claimed_ends": f"""
        SELECT id FROM x402_executions e WHERE state = 'claimed'
            AND created_at < {_NOW} - {GRACE_SECONDS}
                - CASE kind WHEN 'task' THEN :run_seconds ELSE :opening_seconds END
            AND NOT EXISTS (
                SELECT 1 FROM x402_workers w
                WHERE w.id = e.worker AND w.seen_at >= {_NOW} - {UNSEEN_SECONDS}
            )""",
    "settling_ends": f"""
        SELECT id FROM x402_executions WHERE state = 'settling'
            AND coalesce(valid_before, 0) < {_NOW} - {GRACE_SECONDS}""",
    # A re-run has kept the time it was settled at, and begins when it is asked for.
    "settled_ends": f"""
        SELECT id FROM x402_executions WHERE state = 'settled'
            AND max(created_at, coalesce(settled_at, 0))
                < {_NOW} - :run_seconds - {GRACE_SECONDS}""",
    "settling_has_payment": """
        SELECT id FROM x402_executions WHERE state = 'settling' AND sealed_payment IS NULL""",
    "payment_erased": """
        SELECT id FROM x402_executions
        WHERE state NOT IN ('settling', 'settled') AND sealed_payment IS NOT NULL""",
    "answer_kept": f"""
        SELECT id FROM x402_executions WHERE kind IN ('paid', 'task') AND state = 'completed'
            AND coalesce(ended_at, created_at) >= {_NOW} - {DAY_SECONDS}
            AND id NOT IN (SELECT execution_id FROM x402_answers)""",
    "answer_was_bought": """
        SELECT execution_id FROM x402_answers WHERE execution_id NOT IN (
            SELECT id FROM x402_executions
            WHERE kind IN ('paid', 'task') AND state = 'completed'
        )""",
    "completed_is_whole": """
        SELECT id FROM x402_executions WHERE state = 'completed'
            AND (model IS NULL OR usage IS NULL OR stop_reason IS NULL OR ended_at IS NULL)""",
    "reruns_in_range": f"""
        SELECT id FROM x402_executions WHERE reruns NOT BETWEEN 0 AND {MAX_RERUNS}""",
    "attempts_count_reruns": """
        SELECT id FROM x402_executions WHERE attempt < 1 + max(reruns, 0)""",
    "released_unpaid": """
        SELECT id FROM x402_executions WHERE kind = 'paid' AND state = 'released'
            AND "transaction" IS NOT NULL""",
    "refund_noted": """
        SELECT id FROM x402_executions
        WHERE (state = 'refunded') <> (refund_transaction IS NOT NULL)""",
    "money_is_integer": """
        SELECT id FROM x402_executions WHERE typeof(amount) <> 'integer' OR amount < 0
        UNION ALL
        SELECT id FROM x402_resources WHERE typeof(price_usdc) <> 'integer' OR price_usdc < 0""",
    "template_exists": """
        SELECT id FROM x402_executions WHERE kind <> 'task'
            AND (template_id IS NULL OR template_id NOT IN (SELECT id FROM x402_resources))""",
}

_ENTRY = f"""
    SELECT {_NAMES}, p.username AS entry_username, r.slug AS entry_slug
    FROM x402_executions e
    LEFT JOIN x402_resources r ON r.id = e.template_id
    LEFT JOIN profiles p ON p.id = r.registered_by"""
_ENTRIES = f"""
    WITH found AS (
        {_ENTRY} WHERE (:state IS NULL OR e.state = :state) AND (
            :slug IS NULL OR (p.username = :username AND r.slug = :slug)
        )
    ), shown AS (SELECT * FROM found ORDER BY created_at DESC, id LIMIT :limit)
    SELECT (SELECT COUNT(*) FROM found) AS total, shown.*
    FROM (SELECT 1) LEFT JOIN shown ORDER BY created_at DESC, id"""


class SqliteAudit:
    """ports.LedgerAudit over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def findings(self, opening_seconds: float, run_seconds: float) -> Findings:
        limits = {"opening_seconds": opening_seconds, "run_seconds": run_seconds}
        with self._database.connection() as connection:
            connection.execute("BEGIN")
            try:
                (count,) = connection.execute("SELECT COUNT(*) FROM x402_executions").fetchone()
                broken = {name: _ids(connection, sql, limits) for name, sql in _BREAKING.items()}
            finally:
                connection.execute("COMMIT")
        return Findings(count, broken)

    def paid_on(self, network: str) -> Sequence[Execution]:
        sql = f"""{_ENTRY} WHERE e.kind = 'paid' AND e.state IN ({_STATES}) AND e.network = ?
            ORDER BY e.created_at, e.id"""
        return [to_execution(row) for row in self._database.read(sql, network)]

    def payouts(self) -> Sequence[str]:
        rows = self._database.read("SELECT lower(base_address) FROM x402_payout_addresses")
        return [row[0] for row in rows]

    def entries(
        self, limit: int, *, state: State | None = None, template: tuple[str, str] | None = None
    ) -> Page[Entry]:
        username, slug = template or (None, None)
        values = {"state": state, "username": username, "slug": slug, "limit": limit}
        with self._database.connection() as connection:
            rows = connection.execute(_ENTRIES, values).fetchall()
        shown = [_to_entry(row) for row in rows if row["id"] is not None]
        return Page(shown, rows[0]["total"], limit, 0)

    def entry(self, execution_id: str) -> Entry | None:
        rows = self._database.read(f"{_ENTRY} WHERE e.id = ?", execution_id)
        return _to_entry(rows[0]) if rows else None

    def has_template(self, username: str, slug: str) -> bool:
        found = self._database.read(
            """SELECT 1 FROM x402_resources r JOIN profiles p ON p.id = r.registered_by
            WHERE p.username = ? AND r.slug = ? LIMIT 1""",
            username,
            slug,
        )
        return bool(found)


def _ids(connection: sqlite3.Connection, sql: str, limits: Mapping[str, Any]) -> list[str]:
    return [row[0] for row in connection.execute(f"{sql} ORDER BY 1", limits)]


def _to_entry(row: sqlite3.Row) -> Entry:
    return Entry(to_execution(row), row["entry_username"], row["entry_slug"])
