"""One SQLite file that any number of processes and threads may share."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from weakref import WeakSet

from x402jobs import metrics
from x402jobs.domain.errors import StoreUnavailable
from x402jobs.ports import Trouble

BUSY_SECONDS = 5
"""How long a write waits for another process's."""
TURN_SECONDS = 0.02
WATCH_SECONDS = 2.0
"""The same, for who only looks whether it would have to wait."""
FORK_SECONDS = 1
"""How long a fork waits for a transaction of another thread's."""


class Database:
    """One connection a process, opened on first use, closed before a fork and opened again after.

    `schema` is run once, by whichever process comes first; a file made by an earlier version is
    brought up to it by those of the `upgrades` (from 1 to 2, from 2 to 3, …) it lacks. What is
    `durable` survives a power cut (`synchronous=FULL`), the rest only the process's death. Every
    SQLite error becomes StoreUnavailable. A lock lets threads take turns: nothing may yield to
    gevent while a transaction is open, and SQLite itself never does.
    """

    def __init__(
        self, path: Path, schema: str, upgrades: Sequence[str] = (), *, durable: bool = True
    ) -> None:
        self._path = path
        self._schema = schema
        self._upgrades = upgrades
        self._durable = durable
        self._handle: _Handle | None = None
        _databases.add(self)

    def read(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """All rows of one statement."""
        with self.connection() as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def write(
        self, patience: float | None = None, *, durable: bool = True
    ) -> Iterator[sqlite3.Connection]:
        """One transaction that has the write lock from its beginning; undone by an exception.

        It waits for the disk, and the whole worker with it, unless it need not be `durable`.
        While another process has the lock, waiting is done here and not by SQLite, which waits in
        C: the whole worker would stand still.
        """
        synchronous = "FULL" if self._durable and durable else "NORMAL"
        until = time.monotonic() + (BUSY_SECONDS if patience is None else patience)
        while True:
            with self.connection() as connection:
                connection.execute(f"PRAGMA synchronous = {synchronous}")
                if _begin(connection, is_last=time.monotonic() >= until):
                    try:
                        yield connection
                        connection.execute("COMMIT")
                    except BaseException:
                        if connection.in_transaction:
                            connection.execute("ROLLBACK")
                        raise
                    return
            time.sleep(TURN_SECONDS)

    def trouble(self) -> Trouble | None:
        """ports.Database's: what is written is the version that is there, for a disk that is full
        takes the lock, and no page."""
        try:
            with self.write(WATCH_SECONDS) as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute(f"PRAGMA user_version = {version}")
        except StoreUnavailable as error:
            return _troubles(error.__cause__)
        return None if version == len(self._upgrades) + 1 else NEWER

    def close(self, patience: float = -1) -> None:
        """Let go of the file; the next use opens it again."""
        handle = self._handle
        if handle is not None and handle.pid == os.getpid() and handle.lock.acquire(True, patience):
            self._handle = None
            handle.connection.close()
            handle.lock.release()

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """The process's connection, under its lock and outside a transaction."""
        try:
            handle = self._handle
            if handle is None or handle.pid != os.getpid():
                if handle is not None:
                    _inherited.append(handle)
                # Threads that come here together open one each; the last is kept, all of them work.
                handle = self._handle = _Handle(self._connect(), Lock(), os.getpid())
            with metrics.waiting("store"), handle.lock:
                yield handle.connection
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable() from error

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone_in(self._path.parent):
            _create(self._path)
            connection = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            self._prepare(connection)
            connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables, or bring an older version's up to this one, step by step.

        Each step is one transaction: a process killed in the middle of it leaves nothing behind.
        Upgrades run without foreign keys, as rebuilding a table demands (sqlite.org, ALTER TABLE).
        """
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        newest = len(self._upgrades) + 1
        if version > newest:
            raise StoreUnavailable(
                f"{self._path} was written by a newer version of x402jobs. Use that one."
            )
        steps = {newest: self._schema} if version == 0 else dict(enumerate(self._upgrades, start=2))
        for number, step in steps.items():
            if number > version:
                connection.executescript(f"BEGIN; {step}; PRAGMA user_version = {number}; COMMIT")


@dataclass(frozen=True)
class _Handle:
    """One process's hold on the file."""

    connection: sqlite3.Connection
    lock: Lock
    pid: int


NEWER = Trouble("newer_schema", "A newer version of x402jobs has written the file. Use that one.")
TROUBLES = {
    sqlite3.SQLITE_BUSY: Trouble(
        "locked", "Another process holds the file locked: find it, and end what it does."
    ),
    sqlite3.SQLITE_FULL: Trouble("disk_full", "The disk of the data directory is full."),
    sqlite3.SQLITE_READONLY: Trouble("read_only", "The data directory cannot be written to."),
    sqlite3.SQLITE_CANTOPEN: Trouble("not_opened", "The file cannot be opened: see its owner."),
    sqlite3.SQLITE_NOTADB: Trouble("damaged", "The file is no database any more: restore it."),
    sqlite3.SQLITE_CORRUPT: Trouble("damaged", "The file is damaged: restore it from a backup."),
}
"""By SQLite's primary result code."""
FAILED = Trouble("failed", "The file can be neither read nor written: is its disk full, or gone?")


def _troubles(error: BaseException | None) -> Trouble:
    """What it means to whoever reads it at night. Our own refusal has no cause."""
    if error is None:
        return NEWER
    return TROUBLES.get((getattr(error, "sqlite_errorcode", None) or 0) & 0xFF, FAILED)


def _begin(connection: sqlite3.Connection, *, is_last: bool) -> bool:
    """Take the write lock, or say at once that another has it; raises where this was the last try.

    Reading goes on waiting in SQLite: there it hardly ever does, and only for a moment.
    """
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if is_last or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    return True


_inherited: list[_Handle] = []
"""Connections a fork has brought along after all. SQLite forbids a child even to close them."""

_databases: WeakSet[Database] = WeakSet()


def _close_all() -> None:
    for database in tuple(_databases):
        database.close(FORK_SECONDS)


# SQLite counts its locks per process. A child would take an inherited connection's for its own, and
# what it commits would be lost when the parent, alone as far as it can see, closes and tidies up.
os.register_at_fork(before=_close_all)


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """One opening at a time: two first ones that both turn WAL on do not wait, they fail."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        # Closing alone would do, but gevent's `os.close` may put it off to another greenlet's turn,
        # and the next opening here would then wait for ever, on a lock that is our own.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _create(path: Path) -> None:
    """Make the file its owner's alone; its -wal and -shm take the same mode.

    An existing one is left shut: closing any descriptor of it would drop the locks that this
    process holds through SQLite (sqlite.org/howtocorrupt.html, 2.2).
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
