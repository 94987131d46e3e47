"""Sealed Claude keys and payout addresses."""

from x402jobs.adapters.supabase.database import Database


class SupabaseKeys:
    """ports.Keys over Supabase."""

    def __init__(self, database: Database) -> None:
        self._database = database
