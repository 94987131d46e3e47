"""Profiles and templates, and the one joined read of a paid call."""

from x402jobs.adapters.supabase.database import Database


class SupabaseCatalogue:
    """ports.Catalogue over Supabase."""

    def __init__(self, database: Database) -> None:
        self._database = database
