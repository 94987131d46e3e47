"""The shop as an operator runs it: nginx as we ship it, before one group of workers or two."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.order import Order
from benchmarks.processes import ROOT, Service, clean_environment, free_port
from benchmarks.shop import PATH, Shop
from tests.beneath import Embedded
from tests.load.crowd import Reply, ask
from tests.nginx import nginx
from tests.waiting import eventually
from x402jobs.devkit.wallet import sign

UNLIMITED = {"PAYER_CALLS_AT_ONCE": "100000", "SETTLEMENTS_AT_ONCE": "100000"}
"""All the callers here are one payer."""
GZIP = "gzip on; gzip_types *; gzip_proxied any; gzip_min_length 0;"
"""Somebody has switched it on for the whole server, and meant it."""


@dataclass
class Report:
    """What a part did, and what did not hold."""

    name: str
    counts: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def expect(self, what: str, holds: bool, found: object = "") -> None:
        if not holds:
            self.violations.append(f"{what}: {found}")

    def __str__(self) -> str:
        counts = [f"  {name}: {count}" for name, count in self.counts.items()]
        found = f"{self.name} ({self.seconds:.0f} s): {len(self.violations)} violations"
        return "\n".join([found, *counts, *(f"  VIOLATION {each}" for each in self.violations)])


@dataclass
class Group:
    """One gunicorn, master and workers, behind a socket file."""

    path: Path
    log: Path
    environment: dict[str, str]
    options: tuple[str, ...]
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Returns when it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", *self.options],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if not eventually(self.answers, 60):
            raise AssertionError(f"it did not start:\n{self.log.read_text()[-3000:]}")

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.settimeout(5)
            probe.connect(str(self.path))
            probe.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return b" 200 " in probe.recv(20)
        return False

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def workers(self) -> list[int]:
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def wait(self, seconds: float) -> int | None:
        """Its exit status; None where it still runs."""
        assert self.process is not None
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(seconds)
        return None

    def end(self) -> None:
        """Nothing of it is left."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@dataclass
class Site:
    """One shop over one store; `port` is nginx's, `direct` the first group's own."""

    port: int
    shop: Shop
    groups: list[Group]
    direct: int
    has_gzip: bool
    quote: dict[str, Any] = field(default_factory=dict)

    def orders(self, number: int, deltas: int, seconds: float) -> list[Order]:
        """So many answers, each of so many words over so many seconds."""
        return [Order(f"s{each}", deltas, int(seconds * 1e6 / deltas)) for each in range(number)]

    def requests(self, orders: Sequence[Order]) -> list[tuple[Order, bytes]]:
        return self.shop.requests(self.port, orders)

    def unpaid(self) -> Reply:
        return ask(self.port, "POST", PATH, b'{"order":"x"}', {"Content-Type": "application/json"})

    def paid(self) -> Reply:
        """A short answer, bought with a payment of its own."""
        if not self.quote:
            self.quote = self.shop.quote(self.port)
        headers = {"PAYMENT-SIGNATURE": sign(self.shop.wallet, self.quote)}
        headers["Content-Type"] = "application/json"
        return ask(self.port, "POST", PATH, b'{"order":"order paid 3 1000."}', headers)

    def rows(self) -> list[dict[str, Any]]:
        return Embedded(self.shop.data).sql(
            "SELECT id, state, code, attempt FROM x402_executions WHERE kind = 'paid'"
        )

    def transfers(self) -> int:
        return self.shop.transfers()


@contextmanager
def site(
    directory: Path,
    *,
    groups: Sequence[str] = ("one",),
    gzip: bool = False,
    options: tuple[str, ...] = (),
    **environment: str,
) -> Iterator[Site]:
    """Build it, and end every process of it afterwards. `gzip` is switched on for the server."""
    with ExitStack() as stack:
        directory.mkdir(parents=True, exist_ok=True)
        shop, port, claude = Shop.open(directory), free_port(), free_port()
        upstream = ["benchmarks.upstream", str(claude)]
        log = directory / "upstream.log"
        cores = os.sched_getaffinity(0)
        stack.enter_context(Service("upstream", upstream, claude, cores, log))
        plain = f"listen 127.0.0.1:{port} backlog=4096; {GZIP if gzip else ''}"
        stack.enter_context(
            nginx(directory, free_port(), groups=groups, an_address=60_000, front=plain)
        )
        opened = Site(port, shop, [], free_port(), gzip)
        for name in groups:
            binds = ["--bind", f"unix:{directory / name}"]
            if name == groups[0]:
                binds += ["--bind", f"127.0.0.1:{opened.direct}"]
            group = Group(
                path=directory / name,
                log=directory / f"{name}.log",
                environment={
                    **clean_environment(),
                    "PYTHONPATH": str(ROOT),
                    "X402JOBS_DATA": str(shop.data),
                    "CLAUDE_URL": f"http://127.0.0.1:{claude}",
                    "PUBLIC_URL": f"http://127.0.0.1:{port}",
                    "LIMIT_FREE_TEMPLATE": "off",
                    **UNLIMITED,
                    **environment,
                },
                options=(*binds, *options, "wsgi:app"),
            )
            stack.callback(group.end)
            group.start()
            opened.groups.append(group)
        yield opened


def timed(part: Callable[..., Report], *arguments: Any) -> Report:
    """Run a part, and note how long it took."""
    began = time.monotonic()
    report = part(*arguments)
    report.seconds = time.monotonic() - began
    return report
