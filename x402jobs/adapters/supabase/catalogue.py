"""Profiles and templates, and the one joined read of a paid call."""

import json
from typing import Any

from x402jobs.adapters.rows import execution_of
from x402jobs.adapters.supabase.database import NO_ACCOUNT, Database, stored
from x402jobs.domain.errors import Conflict, SlugTaken, Stale
from x402jobs.domain.listing import Listing, StoredTemplate
from x402jobs.domain.page import Page


class SupabaseCatalogue:
    """ports.Catalogue over Supabase."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def listing(self, username: str, slug: str, claim_key: str | None) -> Listing:
        found = self._database.call(
            "x402_listing", of_username=username, of_slug=slug, paid_with=claim_key
        )
        return Listing(
            template=_template(found["template"]) if found["template"] else None,
            sealed_key=found["sealed_key"],
            pay_to=found["pay_to"],
            earlier=execution_of(found["earlier"]) if found["earlier"] else None,
            owed=_template(found["owed"]) if found["owed"] else None,
            owed_key=found["owed_key"],
        )

    def add_user(self, username: str) -> str:
        said = self._database.call("x402_add_user", given=username)
        if said == NO_ACCOUNT:
            raise Conflict("Accounts are made by Supabase Auth: sign up there.", field="username")
        if said == "taken":
            raise Conflict("This username was a deleted account's.", field="username")
        return str(said)

    def user_id(self, username: str) -> str | None:
        user_id: str | None = self._database.call("x402_user_id", of_username=username)
        return user_id

    def username(self, user_id: str) -> str | None:
        username: str | None = self._database.call("x402_username", of_user=user_id)
        return username

    def know(self, user_id: str) -> None:
        stored(self._database.call("x402_know_user", of_user=user_id))

    def give_username(self, user_id: str, username: str) -> str | None:
        said = self._database.call("x402_give_username", to_user=user_id, given=username)
        name: str | None = stored(said)["username"]
        return name

    def templates(self, owner_id: str, limit: int, offset: int) -> Page[StoredTemplate]:
        found = self._database.call(
            "x402_templates", of_owner=owner_id, at_most=limit, skipped=offset
        )
        return Page([_template(each) for each in found["items"]], found["total"], limit, offset)

    def shelf(self, limit: int, offset: int) -> Page[StoredTemplate]:
        found = self._database.call("x402_shelf", at_most=limit, skipped=offset)
        return Page([_template(each) for each in found["items"]], found["total"], limit, offset)

    def template(self, owner_id: str, template_id: str) -> StoredTemplate | None:
        row = self._database.call("x402_template", of_owner=owner_id, template_id=template_id)
        return _template(row) if row else None

    def has_written(self, owner_id: str, template_id: str) -> bool:
        return bool(
            self._database.call("x402_has_written", of_owner=owner_id, template_id=template_id)
        )

    def add_template(self, template: StoredTemplate) -> None:
        said = self._database.write("x402_add_template", template=json.dumps(vars(template)))
        if stored(said) != "added":
            raise SlugTaken()

    def replace_template(self, before: StoredTemplate, after: StoredTemplate) -> None:
        said = self._database.write(
            "x402_replace_template",
            version_before=before.version,
            template=json.dumps(vars(after)),
        )
        if said == "taken":
            raise SlugTaken()
        if said != "replaced":
            raise Stale()

    def delete_template(self, owner_id: str, template_id: str, now: float) -> bool:
        return bool(
            self._database.write(
                "x402_delete_template", of_owner=owner_id, template_id=template_id, moment=now
            )
        )


def _template(row: dict[str, Any]) -> StoredTemplate:
    """The template that a row of the view x402_templates holds."""
    return StoredTemplate(
        id=row["id"],
        version=row["version"],
        owner_id=row["owner"],
        username=row["username"],
        slug=row["slug"],
        name=row["name"],
        description=row["description"],
        price=row["price"],
        sealed_prompt=row["prompt"],
        parameters=row["parameters"],
        model=row["model"],
        max_tokens=row["max_tokens"],
        allows_user_message=row["allows_user_message"],
        network=row["network"],
        created_at=float(row["created_at"]),  # JSON writes a whole number without its point
        updated_at=float(row["updated_at"]),
        is_active=row["is_active"],
    )
