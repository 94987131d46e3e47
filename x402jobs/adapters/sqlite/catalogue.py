"""Profiles and templates, and the one joined read of a paid call."""

import sqlite3
import uuid

from x402jobs.adapters.sqlite.database import Database
from x402jobs.adapters.sqlite.ledger import COLUMNS, to_execution
from x402jobs.domain.listing import Listing, StoredTemplate

_EARLIER = ", ".join(f'e."{name}" AS "earlier_{name}"' for name in COLUMNS)

# The one-row `asked` stands first, so that a known payment is found whatever became of the rest.
_LISTING = f"""
    WITH asked (username, slug, claim_key) AS (SELECT ?, ?, ?)
    SELECT r.*, p.username, k.api_key_encrypted, w.base_address, {_EARLIER}
    FROM asked
    LEFT JOIN profiles p ON p.username = asked.username
    LEFT JOIN x402_resources r
        ON r.registered_by = p.id AND r.slug = asked.slug AND r.is_active
    LEFT JOIN x402_user_claude_configs k ON k.user_id = p.id AND k.is_enabled
    LEFT JOIN x402_payout_addresses w ON w.user_id = p.id
    LEFT JOIN x402_executions e ON e.claim_key = asked.claim_key"""

_PUT_TEMPLATE = """
    INSERT INTO x402_resources (
        id, version, registered_by, slug, name, description, price_usdc, pt_system_prompt,
        pt_parameters, pt_model, pt_max_tokens, pt_allows_user_message
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (registered_by, slug) WHERE is_active DO UPDATE SET
        version = x402_resources.version + 1, name = excluded.name,
        description = excluded.description, price_usdc = excluded.price_usdc,
        pt_system_prompt = excluded.pt_system_prompt, pt_parameters = excluded.pt_parameters,
        pt_model = excluded.pt_model, pt_max_tokens = excluded.pt_max_tokens,
        pt_allows_user_message = excluded.pt_allows_user_message"""


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

    def put_template(self, template: StoredTemplate) -> None:
        values = (
            template.id,
            template.version,
            template.owner_id,
            template.slug,
            template.name,
            template.description,
            template.price,
            template.sealed_prompt,
            template.parameters,
            template.model,
            template.max_tokens,
            template.allows_user_message,
        )
        with self._database.write() as connection:
            connection.execute(_PUT_TEMPLATE, values)


def _to_template(row: sqlite3.Row) -> StoredTemplate:
    return StoredTemplate(
        id=row["id"],
        version=row["version"],
        owner_id=row["registered_by"],
        username=row["username"],
        slug=row["slug"],
        name=row["name"],
        description=row["description"],
        price=row["price_usdc"],
        sealed_prompt=row["pt_system_prompt"],
        parameters=row["pt_parameters"],
        model=row["pt_model"],
        max_tokens=row["pt_max_tokens"],
        allows_user_message=bool(row["pt_allows_user_message"]),
    )
