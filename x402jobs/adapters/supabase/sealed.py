"""Every sealed column, for whoever puts another key on it."""

from x402jobs.adapters.supabase.database import Database


class SupabaseSealed:
    """ports.SealedValues over Supabase."""

    def __init__(self, database: Database) -> None:
        self._database = database
