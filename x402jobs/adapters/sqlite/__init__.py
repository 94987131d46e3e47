"""The embedded store: one SQLite file under the data directory."""

from importlib import resources
from pathlib import Path

from x402jobs.adapters.sqlite.catalogue import SqliteCatalogue
from x402jobs.adapters.sqlite.database import Database
from x402jobs.adapters.sqlite.keys import SqliteKeys
from x402jobs.adapters.sqlite.ledger import SqliteLedger

__all__ = ["Database", "SqliteCatalogue", "SqliteKeys", "SqliteLedger", "embedded_store"]


def embedded_store(data: Path) -> Database:
    """The store of this data directory; directory and file are made on first use."""
    schema = resources.files(__package__).joinpath("schema.sql").read_text()
    return Database(data / "x402jobs.sqlite3", schema)
