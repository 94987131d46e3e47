"""Trees of tiles."""

from x402jobs.adapters.supabase.database import Database


class SupabaseTiles:
    """ports.Tiles over Supabase."""

    def __init__(self, database: Database) -> None:
        self._database = database
