"""Sealed Claude keys and payout addresses."""

from x402jobs.adapters.sqlite.database import Database


class SqliteKeys:
    """ports.Keys over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put_claude_key(self, user_id: str, sealed_key: str, *, enabled: bool) -> None:
        with self._database.write() as connection:
            connection.execute(
                """INSERT INTO x402_user_claude_configs (user_id, api_key_encrypted, is_enabled)
                VALUES (?, ?, ?) ON CONFLICT (user_id) DO UPDATE SET
                    api_key_encrypted = excluded.api_key_encrypted,
                    is_enabled = excluded.is_enabled""",
                (user_id, sealed_key, enabled),
            )

    def put_pay_to(self, user_id: str, address: str) -> None:
        with self._database.write() as connection:
            connection.execute(
                """INSERT INTO x402_payout_addresses (user_id, base_address) VALUES (?, ?)
                ON CONFLICT (user_id) DO UPDATE SET base_address = excluded.base_address""",
                (user_id, address),
            )
