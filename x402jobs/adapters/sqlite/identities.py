"""Sessions, API keys, and the pepper their digests are made with."""

import sqlite3

from x402jobs.adapters.sqlite.database import Database
from x402jobs.domain.credentials import ApiKey, InternalKey, Session
from x402jobs.domain.page import Page

# Whoever is given something has an account, although perhaps no name yet.
_KNOW_USER = "INSERT INTO profiles (id) VALUES (?) ON CONFLICT DO NOTHING"

_PUT_INTERNAL_KEY = """INSERT INTO x402_internal_api_keys
    (id, user_id, purpose, digest, sealed_key, created_at, last_used_at, expires_at)
    VALUES (:id, :user_id, :purpose, :digest, :sealed_key, :created_at, :last_used_at, :expires_at)
    ON CONFLICT (user_id, purpose) DO UPDATE SET
        id = excluded.id, digest = excluded.digest, sealed_key = excluded.sealed_key,
        created_at = excluded.created_at, last_used_at = excluded.last_used_at,
        expires_at = excluded.expires_at
    WHERE id = :replaced"""


class SqliteIdentities:
    """ports.Identities over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pepper(self, name: str, sealed_pepper: str) -> str:
        sql = "SELECT sealed_pepper FROM x402_peppers WHERE name = ?"
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO x402_peppers VALUES (?, ?) ON CONFLICT DO NOTHING",
                (name, sealed_pepper),
            )
            return str(connection.execute(sql, (name,)).fetchone()[0])

    def add_session(self, session: Session) -> None:
        with self._database.write() as connection:
            connection.execute(_KNOW_USER, (session.user_id,))
            connection.execute(
                "DELETE FROM x402_sessions WHERE expires_at <= ?", (session.renewed_at,)
            )
            connection.execute(
                """INSERT INTO x402_sessions (digest, user_id, renewed_at, expires_at)
                VALUES (:digest, :user_id, :renewed_at, :expires_at)""",
                vars(session),
            )

    def session(self, digest: str) -> Session | None:
        sql = """SELECT digest, user_id, renewed_at, expires_at
            FROM x402_sessions WHERE digest = ?"""
        rows = self._database.read(sql, digest)
        return Session(**rows[0]) if rows else None

    def renew_session(self, session: Session) -> None:
        with self._database.write() as connection:
            connection.execute(
                """UPDATE x402_sessions SET renewed_at = :renewed_at, expires_at = :expires_at
                WHERE digest = :digest""",
                vars(session),
            )

    def end_session(self, digest: str) -> None:
        with self._database.write() as connection:
            connection.execute("DELETE FROM x402_sessions WHERE digest = ?", (digest,))

    def add_api_key(self, key: ApiKey) -> None:
        with self._database.write() as connection:
            connection.execute(_KNOW_USER, (key.user_id,))
            connection.execute(
                """INSERT INTO x402_api_keys
                (id, user_id, name, digest, created_at, last_used_at, expires_at) VALUES
                (:id, :user_id, :name, :digest, :created_at, :last_used_at, :expires_at)""",
                vars(key),
            )

    def api_key(self, key_id: str) -> ApiKey | None:
        rows = self._database.read("SELECT * FROM x402_api_keys WHERE id = ?", key_id)
        return _to_key(rows[0]) if rows else None

    def api_keys(self, user_id: str, limit: int, offset: int) -> Page[ApiKey]:
        rows = self._database.read(
            """WITH found AS (SELECT * FROM x402_api_keys WHERE user_id = ?),
            shown AS (
                SELECT * FROM found ORDER BY created_at DESC, id LIMIT ? OFFSET ?
            )
            SELECT (SELECT COUNT(*) FROM found) AS total, shown.*
            FROM (SELECT 1) LEFT JOIN shown ORDER BY created_at DESC, id""",
            user_id,
            limit,
            offset,
        )
        shown = [_to_key(row) for row in rows if row["id"] is not None]
        return Page(shown, rows[0]["total"], limit, offset)

    def delete_api_key(self, user_id: str, key_id: str) -> bool:
        sql = "DELETE FROM x402_api_keys WHERE id = ? AND user_id = ?"
        with self._database.write() as connection:
            return connection.execute(sql, (key_id, user_id)).rowcount == 1

    def note_api_key_used(self, key_id: str, now: float) -> None:
        with self._database.write() as connection:
            connection.execute(
                "UPDATE x402_api_keys SET last_used_at = ? WHERE id = ?", (now, key_id)
            )

    def internal_key(self, user_id: str, purpose: str) -> InternalKey | None:
        sql = "SELECT * FROM x402_internal_api_keys WHERE user_id = ? AND purpose = ?"
        rows = self._database.read(sql, user_id, purpose)
        return InternalKey(**rows[0]) if rows else None

    def internal_key_of(self, digest: str) -> InternalKey | None:
        sql = "SELECT * FROM x402_internal_api_keys WHERE digest = ?"
        rows = self._database.read(sql, digest)
        return InternalKey(**rows[0]) if rows else None

    def put_internal_key(self, key: InternalKey, replaced: str | None) -> InternalKey:
        sql = "SELECT * FROM x402_internal_api_keys WHERE user_id = ? AND purpose = ?"
        with self._database.write() as connection:
            connection.execute(_KNOW_USER, (key.user_id,))
            connection.execute(_PUT_INTERNAL_KEY, vars(key) | {"replaced": replaced})
            return InternalKey(**connection.execute(sql, (key.user_id, key.purpose)).fetchone())

    def note_internal_key_used(self, key_id: str, now: float) -> None:
        with self._database.write() as connection:
            connection.execute(
                "UPDATE x402_internal_api_keys SET last_used_at = ? WHERE id = ?", (now, key_id)
            )


def _to_key(row: sqlite3.Row) -> ApiKey:
    return ApiKey(
        id=row["id"],
        user_id=row["user_id"],
        name=row["name"],
        digest=row["digest"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
    )
