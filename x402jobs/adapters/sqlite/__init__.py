"""The embedded store: one SQLite file under the data directory."""

from x402jobs.adapters.sqlite.catalogue import SqliteCatalogue
from x402jobs.adapters.sqlite.database import Database
from x402jobs.adapters.sqlite.keys import SqliteKeys
from x402jobs.adapters.sqlite.ledger import SqliteLedger

__all__ = ["Database", "SqliteCatalogue", "SqliteKeys", "SqliteLedger"]
