"""The ledger: every step one compare-and-swap whose rows are counted."""

from x402jobs.adapters.supabase.database import Database


class SupabaseLedger:
    """ports.Ledger over Supabase."""

    def __init__(self, database: Database) -> None:
        self._database = database
