"""One connection a process to one file, made on first use."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from threading import RLock

from x402jobs.domain.errors import StoreUnavailable

SCHEMA_VERSION = 1
BUSY_SECONDS = 5


class Database:
    """Opens lazily, so that a server may fork after building it, and again after a fork.

    A lock lets threads share the connection; statements are short and SQLite never yields to
    gevent inside one. `synchronous=FULL`: a committed step of money survives a power cut.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    def read(self, sql: str, *values: object) -> Sequence[sqlite3.Row]:
        """All rows of one statement."""
        with self._held() as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction that has the write lock from its beginning."""
        with self._held() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    @contextmanager
    def _held(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._opened()
            except sqlite3.Error as error:
                raise StoreUnavailable() from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None or self._pid != os.getpid():
            self._connection, self._pid = _connect(self._path), os.getpid()
        return self._connection


def _connect(path: Path) -> sqlite3.Connection:
    private_directory(path.parent)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    _migrate(connection)
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Create the schema once, however many processes come at the same moment."""
    if _version(connection) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN EXCLUSIVE")
    if _version(connection) == 0:
        schema = resources.files(__package__).joinpath("schema.sql").read_text()
        for statement in _statements(schema):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    """The script's statements; `executescript` would commit the transaction we hold."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def private_directory(path: Path) -> Path:
    """The directory, made on first use, for its owner alone."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
