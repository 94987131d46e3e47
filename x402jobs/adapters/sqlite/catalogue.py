"""Profiles and templates, and the one joined read of a paid call."""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from x402jobs.adapters.rows import COLUMNS
from x402jobs.adapters.sqlite.database import Database
from x402jobs.adapters.sqlite.ledger import to_execution
from x402jobs.domain.errors import SlugTaken, Stale
from x402jobs.domain.listing import Listing, StoredTemplate
from x402jobs.domain.page import Page

_COLUMNS = (
    "id", "version", "registered_by", "slug", "name", "description", "price_usdc", "network",
    "is_active", "pt_system_prompt", "pt_parameters", "pt_model", "pt_max_tokens",
    "pt_allows_user_message", "created_at", "updated_at",
)  # fmt: skip
_EARLIER = ", ".join(f'e."{name}" AS "earlier_{name}"' for name in COLUMNS)
_OWED = ", ".join(f'o."{name}" AS "owed_{name}"' for name in _COLUMNS)

# The one-row `asked` stands first, so that a known payment is found whatever became of the rest.
_LISTING = f"""
    WITH asked (username, slug, claim_key) AS (SELECT ?, ?, ?)
    SELECT r.*, p.username, k.api_key_encrypted, w.base_address, {_EARLIER},
        {_OWED}, q.username AS owed_username, j.api_key_encrypted AS owed_key
    FROM asked
    LEFT JOIN profiles p ON p.username = asked.username
    LEFT JOIN x402_resources r
        ON r.registered_by = p.id AND r.slug = asked.slug AND r.is_active
    LEFT JOIN x402_user_claude_configs k ON k.user_id = p.id AND k.is_enabled
    LEFT JOIN x402_payout_addresses w ON w.user_id = p.id
    LEFT JOIN x402_executions e ON e.claim_key = asked.claim_key
    LEFT JOIN x402_resources o ON o.id = e.template_id AND e.state = 'refund_due'
    LEFT JOIN profiles q ON q.id = o.registered_by
    LEFT JOIN x402_user_claude_configs j ON j.user_id = q.id AND j.is_enabled"""

_TEMPLATE = """
    SELECT r.*, p.username FROM x402_resources r JOIN profiles p ON p.id = r.registered_by
    WHERE r.deleted_at IS NULL AND """

_ADD = f"""INSERT INTO x402_resources ({", ".join(_COLUMNS)})
    VALUES ({", ".join(f":{name}" for name in _COLUMNS)})"""
_REPLACE = f"""UPDATE x402_resources SET {", ".join(f"{name} = :{name}" for name in _COLUMNS)}
    WHERE id = :id AND version = :version_before AND deleted_at IS NULL"""


class SqliteCatalogue:
    """ports.Catalogue over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def listing(self, username: str, slug: str, claim_key: str | None) -> Listing:
        (row,) = self._database.read(_LISTING, username, slug, claim_key)
        return Listing(
            template=_to_template(row) if row["id"] is not None else None,
            sealed_key=row["api_key_encrypted"],
            pay_to=row["base_address"],
            earlier=to_execution(row, "earlier_") if row["earlier_id"] is not None else None,
            owed=_to_template(row, "owed_") if row["owed_id"] is not None else None,
            owed_key=row["owed_key"],
        )

    def add_user(self, username: str) -> str:
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO profiles (id, username) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (str(uuid.uuid4()), username),
            )
            found = connection.execute("SELECT id FROM profiles WHERE username = ?", (username,))
            return str(found.fetchone()["id"])

    def user_id(self, username: str) -> str | None:
        rows = self._database.read("SELECT id FROM profiles WHERE username = ?", username)
        return rows[0]["id"] if rows else None

    def username(self, user_id: str) -> str | None:
        rows = self._database.read("SELECT username FROM profiles WHERE id = ?", user_id)
        return rows[0]["username"] if rows else None

    def know(self, user_id: str) -> None:
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO profiles (id) VALUES (?) ON CONFLICT DO NOTHING", (user_id,)
            )

    def give_username(self, user_id: str, username: str) -> str | None:
        with self._database.write() as connection:
            connection.execute(
                """INSERT INTO profiles (id, username) VALUES (:id, :username)
                ON CONFLICT DO NOTHING""",
                {"id": user_id, "username": username},
            )
            connection.execute(
                """UPDATE OR IGNORE profiles SET username = :username
                WHERE id = :id AND username IS NULL""",
                {"id": user_id, "username": username},
            )
            found = connection.execute("SELECT username FROM profiles WHERE id = ?", (user_id,))
            row = found.fetchone()
            return row["username"] if row else None

    def templates(self, owner_id: str, limit: int, offset: int) -> Page[StoredTemplate]:
        return self._page("r.registered_by = :who", limit, offset, who=owner_id)

    def shelf(self, limit: int, offset: int) -> Page[StoredTemplate]:
        return self._page("r.is_active", limit, offset)

    def template(self, owner_id: str, template_id: str) -> StoredTemplate | None:
        sql = f"{_TEMPLATE} r.registered_by = ? AND r.id = ?"
        rows = self._database.read(sql, owner_id, template_id)
        return _to_template(rows[0]) if rows else None

    def has_written(self, owner_id: str, template_id: str) -> bool:
        sql = "SELECT 1 FROM x402_resources WHERE registered_by = ? AND id = ?"
        return bool(self._database.read(sql, owner_id, template_id))

    def add_template(self, template: StoredTemplate) -> None:
        with self._database.write() as connection, _slug_of_its_own():
            connection.execute(_ADD, _to_row(template))

    def replace_template(self, before: StoredTemplate, after: StoredTemplate) -> None:
        values = _to_row(after) | {"version_before": before.version}
        with self._database.write() as connection, _slug_of_its_own():
            if connection.execute(_REPLACE, values).rowcount != 1:
                raise Stale()

    def delete_template(self, owner_id: str, template_id: str, now: float) -> bool:
        with self._database.write() as connection:
            deleted = connection.execute(
                """UPDATE x402_resources SET is_active = 0, deleted_at = :now
                WHERE id = :id AND registered_by = :owner AND deleted_at IS NULL""",
                {"now": now, "id": template_id, "owner": owner_id},
            )
            return deleted.rowcount == 1

    def _page(self, which: str, limit: int, offset: int, **values: str) -> Page[StoredTemplate]:
        """Newest first; the count and the rows are of one moment."""
        with self._database.connection() as connection:
            rows = connection.execute(
                f"""WITH found AS ({_TEMPLATE} {which}),
                shown AS (
                    SELECT * FROM found ORDER BY created_at DESC, id LIMIT :limit OFFSET :offset
                )
                SELECT (SELECT COUNT(*) FROM found) AS total, shown.*
                FROM (SELECT 1) LEFT JOIN shown ORDER BY created_at DESC, id""",
                values | {"limit": limit, "offset": offset},
            ).fetchall()
        shown = [_to_template(row) for row in rows if row["id"] is not None]
        return Page(shown, rows[0]["total"], limit, offset)


@contextmanager
def _slug_of_its_own() -> Iterator[None]:
    """The one unique index besides the primary key, whose ids are random, is the slug's."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
            raise SlugTaken() from None
        raise


def _to_row(template: StoredTemplate) -> dict[str, object]:
    return {
        "id": template.id,
        "version": template.version,
        "registered_by": template.owner_id,
        "slug": template.slug,
        "name": template.name,
        "description": template.description,
        "price_usdc": template.price,
        "network": template.network,
        "is_active": template.is_active,
        "pt_system_prompt": template.sealed_prompt,
        "pt_parameters": template.parameters,
        "pt_model": template.model,
        "pt_max_tokens": template.max_tokens,
        "pt_allows_user_message": template.allows_user_message,
        "created_at": template.created_at,
        "updated_at": template.updated_at,
    }


def _to_template(row: sqlite3.Row, prefix: str = "") -> StoredTemplate:
    """The template a row holds, its columns named with the prefix."""
    return StoredTemplate(
        id=row[prefix + "id"],
        version=row[prefix + "version"],
        owner_id=row[prefix + "registered_by"],
        username=row[prefix + "username"],
        slug=row[prefix + "slug"],
        name=row[prefix + "name"],
        description=row[prefix + "description"],
        price=row[prefix + "price_usdc"],
        sealed_prompt=row[prefix + "pt_system_prompt"],
        parameters=row[prefix + "pt_parameters"],
        model=row[prefix + "pt_model"],
        max_tokens=row[prefix + "pt_max_tokens"],
        allows_user_message=bool(row[prefix + "pt_allows_user_message"]),
        network=row[prefix + "network"],
        created_at=row[prefix + "created_at"],
        updated_at=row[prefix + "updated_at"],
        is_active=bool(row[prefix + "is_active"]),
    )
