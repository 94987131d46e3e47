"""Processes that end with us, and what the operating system says they used."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

START_SECONDS = 30.0
STOP_SECONDS = 5.0
ROOT = Path(__file__).resolve().parent.parent


class ProcessFailed(Exception):
    """A process did not start, or ended before it should."""


@dataclass(frozen=True)
class Usage:
    """Seconds on a core, and seconds ready to run while somebody else had it."""

    cpu: float
    waited: float

    def since(self, before: "Usage") -> "Usage":
        """What came on top."""
        return Usage(self.cpu - before.cpu, self.waited - before.waited)


class Service:
    """A program on a loopback port, in a session of its own, ended with its `with` block."""

    def __init__(
        self,
        name: str,
        arguments: list[str],
        port: int,
        cores: Collection[int],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        program: Sequence[str] = (sys.executable, "-m"),
    ) -> None:
        self.name = name
        self.port = port
        self._log = log
        self._cores = cores
        self._command = [*program, *arguments]
        self._family: list[int] = []
        self._environment = clean_environment() | dict(environment or {})

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            os.sched_setaffinity(self._process.pid, self._cores)  # its children inherit it
            self._await_port()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def usage(self) -> Usage:
        """Of the process and all its descendants, since they started.

        Raises ProcessFailed when one has gone, even if gunicorn has put another in its place.
        """
        family = self._members()
        self._family = self._family or family
        if family != self._family:
            raise ProcessFailed(f"a process of {self.name} came or went: {self.last_words()}")
        return usage(family)

    def resident(self) -> int:
        """Bytes of memory that it holds now, each process's share of what they have in common."""
        return sum(_share(pid) for pid in self._members())

    def last_words(self) -> str:
        """The end of its output."""
        return self._log.read_text(errors="replace")[-2000:]

    def _members(self) -> list[int]:
        if self._process.poll() is not None:
            raise ProcessFailed(f"{self.name} ended: {self.last_words()}")
        return _family(self._process.pid)

    def _await_port(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise ProcessFailed(f"{self.name} did not start: {self.last_words()}")

    def await_health(self) -> None:
        """Wait for a 200 from `/healthz`: gunicorn listens before its worker has the app."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
        try:
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
        except (OSError, HTTPException) as error:
            raise ProcessFailed(f"{self.name}: {error!r}: {self.last_words()}") from None
        finally:
            connection.close()
        if status != 200:
            raise ProcessFailed(f"{self.name}: /healthz answers {status}: {self.last_words()}")

    def _end(self) -> None:
        """Ask, wait a moment, then end the whole session: no worker survives its master."""
        try:
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def gunicorn(
    name: str,
    arguments: list[str],
    cores: Collection[int],
    directory: Path,
    environment: Mapping[str, str],
) -> Service:
    """A gunicorn master and its one worker on a free port, which `X402JOBS_BIND` tells."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    ours = {"X402JOBS_BIND": address, "PUBLIC_URL": f"http://{address}"}
    command = ["gunicorn", *arguments]
    log = directory / f"{name}.log"
    return Service(name, command, port, cores, log, {**environment, **ours})


def clean_environment() -> dict[str, str]:
    """What a program needs of ours; nothing that would steer the product, or the SDK's client."""
    return {
        name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ
    }


def free_port() -> int:
    """A port of this machine's that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def usage(processes: Collection[int]) -> Usage:
    """The scheduler's nanosecond counters of every thread. A thread that ends takes its own along:
    ours are greenlets, and of others' servers that would be to their advantage."""
    cpu = waited = 0
    for pid in processes:
        for task in Path(f"/proc/{pid}/task").iterdir():
            ran, ready, _ = (task / "schedstat").read_text().split()
            cpu, waited = cpu + int(ran), waited + int(ready)
    return Usage(cpu / 1e9, waited / 1e9)


def _share(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(rollup.partition("\nPss:")[2].split()[0])


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = "".join(
        (task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()
    )
    return [pid, *(each for child in children.split() for each in _family(int(child)))]
