"""Every sealed column, for whoever puts another key on it."""

import json
from collections.abc import Sequence

from x402jobs.adapters.supabase.database import Database
from x402jobs.ports import SealedValue


class SupabaseSealed:
    """ports.SealedValues over Supabase. Which columns there are, the project's functions know."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, table: str, column: str, after: str, limit: int) -> Sequence[SealedValue]:
        found = self._database.call(
            "x402_sealed_page", in_table=table, in_column=column, behind=after, at_most=limit
        )
        return [SealedValue(**each) for each in found]

    def replace(self, table: str, column: str, fresh: Sequence[tuple[SealedValue, str]]) -> int:
        pairs = [
            {"row": value.row, "before": value.sealed, "after": sealed} for value, sealed in fresh
        ]
        replaced = self._database.write(
            "x402_sealed_replace", in_table=table, in_column=column, fresh=json.dumps(pairs)
        )
        return int(replaced)
