"""Every sealed column, for whoever puts another key on it."""

from collections.abc import Sequence

from x402jobs.adapters.sqlite.database import Database
from x402jobs.ports import SealedValue

_ROW_AND_OWNER = {
    ("x402_user_claude_configs", "api_key_encrypted"): ("user_id", "user_id"),
    ("x402_resources", "pt_system_prompt"): ("id", "registered_by"),
    ("x402_executions", "sealed_payment"): ("id", "id"),
    ("x402_answers", "sealed_answer"): ("execution_id", "execution_id"),
    ("x402_internal_api_keys", "sealed_key"): ("id", "id"),
    ("x402_peppers", "sealed_pepper"): ("name", "name"),
}


class SqliteSealed:
    """ports.SealedValues over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, table: str, column: str, after: str, limit: int) -> Sequence[SealedValue]:
        row, owner = _ROW_AND_OWNER[table, column]
        found = self._database.read(
            f"""SELECT {row} AS row, {owner} AS owner, {column} AS sealed FROM {table}
            WHERE {row} > ? AND {column} IS NOT NULL ORDER BY {row} LIMIT ?""",
            after,
            limit,
        )
        return [SealedValue(**each) for each in found]

    def replace(self, table: str, column: str, fresh: Sequence[tuple[SealedValue, str]]) -> int:
        row, _ = _ROW_AND_OWNER[table, column]
        sql = f"UPDATE {table} SET {column} = ? WHERE {row} = ? AND {column} = ?"
        with self._database.write() as connection:
            return sum(
                connection.execute(sql, (sealed, value.row, value.sealed)).rowcount
                for value, sealed in fresh
            )
