"""The ledger as its operator sees it."""

from x402jobs.adapters.supabase.database import Database


class SupabaseAudit:
    """ports.LedgerAudit over Supabase."""

    def __init__(self, database: Database) -> None:
        self._database = database
