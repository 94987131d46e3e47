"""Sealed Claude keys and payout addresses."""

import sqlite3

from x402jobs.adapters.sqlite.database import Database
from x402jobs.domain.listing import ClaudeConfig

# Whoever stores something has an account, although perhaps no name yet.
_KNOW_USER = "INSERT INTO profiles (id) VALUES (?) ON CONFLICT DO NOTHING"


class SqliteKeys:
    """ports.Keys over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claude_config(self, user_id: str) -> ClaudeConfig:
        with self._database.connection() as connection:
            return _config(connection, user_id)

    def sealed_claude_key(self, user_id: str) -> str | None:
        rows = self._database.read(
            """SELECT api_key_encrypted FROM x402_user_claude_configs
            WHERE user_id = ? AND is_enabled""",
            user_id,
        )
        return rows[0]["api_key_encrypted"] if rows else None

    def put_claude_key(
        self, user_id: str, sealed_key: str | None, *, enabled: bool | None = None
    ) -> ClaudeConfig:
        values = {"user": user_id, "key": sealed_key, "enabled": enabled}
        with self._database.write() as connection:
            if sealed_key is not None:
                connection.execute(_KNOW_USER, (user_id,))
                connection.execute(
                    """INSERT INTO x402_user_claude_configs (user_id, api_key_encrypted)
                    VALUES (:user, :key) ON CONFLICT (user_id) DO UPDATE SET
                        api_key_encrypted = excluded.api_key_encrypted""",
                    values,
                )
            connection.execute(
                """UPDATE x402_user_claude_configs
                SET is_enabled = coalesce(:enabled, is_enabled) WHERE user_id = :user""",
                values,
            )
            return _config(connection, user_id)

    def delete_claude_key(self, user_id: str) -> None:
        with self._database.write() as connection:
            connection.execute("DELETE FROM x402_user_claude_configs WHERE user_id = ?", (user_id,))

    def pay_to(self, user_id: str) -> str | None:
        sql = "SELECT base_address FROM x402_payout_addresses WHERE user_id = ?"
        rows = self._database.read(sql, user_id)
        return rows[0]["base_address"] if rows else None

    def put_pay_to(self, user_id: str, address: str) -> None:
        with self._database.write() as connection:
            connection.execute(_KNOW_USER, (user_id,))
            connection.execute(
                """INSERT INTO x402_payout_addresses (user_id, base_address) VALUES (?, ?)
                ON CONFLICT (user_id) DO UPDATE SET base_address = excluded.base_address""",
                (user_id, address),
            )

    def delete_pay_to(self, user_id: str) -> None:
        with self._database.write() as connection:
            connection.execute("DELETE FROM x402_payout_addresses WHERE user_id = ?", (user_id,))


def _config(connection: sqlite3.Connection, user_id: str) -> ClaudeConfig:
    sql = "SELECT is_enabled FROM x402_user_claude_configs WHERE user_id = ?"
    row = connection.execute(sql, (user_id,)).fetchone()
    return ClaudeConfig(has_key=row is not None, is_enabled=row is not None and bool(row[0]))
