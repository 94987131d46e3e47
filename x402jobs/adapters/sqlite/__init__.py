"""The embedded store: one SQLite file under the data directory."""

from importlib import resources
from pathlib import Path

from x402jobs.adapters.sqlite.audit import SqliteAudit
from x402jobs.adapters.sqlite.catalogue import SqliteCatalogue
from x402jobs.adapters.sqlite.database import Database
from x402jobs.adapters.sqlite.identities import SqliteIdentities
from x402jobs.adapters.sqlite.keys import SqliteKeys
from x402jobs.adapters.sqlite.ledger import SqliteLedger
from x402jobs.adapters.sqlite.sealed import SqliteSealed
from x402jobs.adapters.sqlite.tiles import SqliteTiles
from x402jobs.ports import Store

__all__ = [
    "Database",
    "SqliteAudit",
    "SqliteCatalogue",
    "SqliteIdentities",
    "SqliteKeys",
    "SqliteLedger",
    "SqliteSealed",
    "SqliteTiles",
    "embedded_database",
    "embedded_store",
]

UPGRADES = (2, 3, 4, 5)
"""Each leads from the version before it; schema.sql is always the newest."""


def embedded_store(data: Path) -> Store:
    """The store of this data directory; directory and file are made on first use."""
    database = embedded_database(data)
    return Store(
        ledger=SqliteLedger(database),
        audit=SqliteAudit(database),
        catalogue=SqliteCatalogue(database),
        keys=SqliteKeys(database),
        sealed=SqliteSealed(database),
        identities=SqliteIdentities(database),
        tiles=SqliteTiles(database),
        database=database,
    )


def embedded_database(data: Path) -> Database:
    """Its one file."""
    here = resources.files(__package__)
    upgrades = [here.joinpath(f"upgrades/{number}.sql").read_text() for number in UPGRADES]
    return Database(data / "x402jobs.sqlite3", here.joinpath("schema.sql").read_text(), upgrades)
