"""Sessions, API keys, and the pepper their digests are made with."""

from x402jobs.adapters.supabase.database import Database


class SupabaseIdentities:
    """ports.Identities over Supabase."""

    def __init__(self, database: Database) -> None:
        self._database = database
