"""Gunicorn with its workers and its peers, to be killed, drained and asked about."""

import base64
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from x402 import x402FacilitatorSync

from tests.battery import callers, invariants, project
from tests.battery.callers import Heard
from tests.battery.money import BOTH, Purse, ledgers, transfers
from tests.battery.peers import BatteryClaude, BatteryFacilitator
from tests.beneath import Beneath, Project, beneath
from tests.conftest import CREATOR_KEY, PAY_TO, PRICE
from tests.supabase.postgres import Postgres
from tests.waiting import eventually, free_port
from tests.wire.conftest import ROOT
from x402jobs.adapters.clock import SystemClock
from x402jobs.devkit.development_ledger import DevelopmentLedger, Transfer
from x402jobs.domain.secret import Secret
from x402jobs.domain.template_draft import TemplateDraft
from x402jobs.ports import Store
from x402jobs.services import Services
from x402jobs.services.audit import Audit
from x402jobs.settings import Settings
from x402jobs.stores import store
from x402jobs.wiring import build_services, money_of

HURRIED = {
    "x402jobs.adapters.sqlite.ledger.UNSEEN_SECONDS": 6,
    "x402jobs.services.caretaker.BEAT_SECONDS": 0.5,
    "x402jobs.services.recovery.PAUSE_SECONDS": 0.5,
}
"""Only how long others wait for a worker that is gone: 6 s for 15, looked for twice a second.

Where the store is a Supabase project, the 15 are in its database, and become 6 there.
"""
QUIET_SECONDS = 60


@dataclass
class Report:
    """What a part of the battery did and found."""

    name: str
    seed: int
    counts: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        found = f"{len(self.violations)} violations"
        lines = [f"{self.name} (seed {self.seed}, {self.seconds:.0f} s): {counts}; {found}"]
        return "\n  ".join([*lines, *sorted(set(self.violations))[:12]])


@dataclass(frozen=True)
class Site:
    """Where a house is built: with a server of Postgres, on a Supabase project made there."""

    directory: Path
    postgres: Postgres | None = None

    @property
    def hosts(self) -> int:
        """A project serves several machines, a file one."""
        return 1 if self.postgres is None else 2


@dataclass
class Host:
    """One machine of a shop's: gunicorn with its workers, and a data directory of their own."""

    data: Path
    port: int
    log: Path
    environment: dict[str, str]
    options: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """A new group of processes; returns when it answers."""
        self.begin()
        self.await_answer()

    def begin(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "-c", "python:tests.battery.warm"),
                    *(*self.options, "tests.battery.wsgi:app"),
                ],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def await_answer(self) -> None:
        if not eventually(self.answers, 60):
            raise AssertionError(f"it did not start:\n{self.log.read_text()[-3000:]}")

    def answers(self) -> bool:
        with suppress(httpx.TransportError):
            url = f"http://127.0.0.1:{self.port}/healthz"
            return httpx.get(url, trust_env=False, timeout=5).status_code == 200
        return False

    def workers(self) -> list[int]:
        """The workers' process ids."""
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def kill_group(self) -> None:
        """kill -9, master and workers alike, in no order."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float) -> None:
        """As an operator stops it: SIGTERM; what does not end is killed."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.kill_group()
        self.process = None

    def end(self) -> None:
        """Nothing of it is left."""
        if self.process is not None:
            for pid in self.workers():  # a frozen one hears nothing else
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self.kill_group()


@dataclass
class House:
    """One shop over one store: its hosts, its peers, the payments made to it."""

    settings: Settings
    beneath: Beneath
    store: Store
    services: Services
    ada: str
    purse: Purse
    claude: BatteryClaude
    facilitator: BatteryFacilitator
    ledgers: tuple[DevelopmentLedger, DevelopmentLedger]
    hosts: list[Host]
    staff: int
    random: random.Random
    seed: int
    has_bug: bool
    heard: list[Heard] = field(default_factory=list)
    turns: "itertools.cycle[Host]" = field(init=False)

    def __post_init__(self) -> None:
        self.turns = itertools.cycle(self.hosts)

    @property
    def port(self) -> int:
        """Of each host in turn, as a balancer would."""
        return next(self.turns).port

    @property
    def process(self) -> "subprocess.Popen[bytes] | None":
        """That of the only host."""
        (host,) = self.hosts
        return host.process

    @property
    def peers(self) -> tuple[str, ...]:
        """The URLs of Claude, of the facilitator, and of the store where it has one."""
        store = self.settings.supabase_url
        return (self.claude.url, self.facilitator.url, *([store] if store else []))

    @property
    def data(self) -> Path:
        return self.settings.data

    def start(self) -> None:
        for host in self.hosts:
            host.begin()
        for host in self.hosts:
            host.await_answer()

    def answers(self) -> bool:
        return all(host.answers() for host in self.hosts)

    def workers(self) -> list[int]:
        """Every host's, by their process ids; `staff` many, when none is missing."""
        return [pid for host in self.hosts for pid in host.workers()]

    def kill_group(self) -> None:
        """kill -9, every host's."""
        for host in self.hosts:
            host.kill_group()

    def stop(self, seconds: float = 30) -> None:
        for host in self.hosts:
            host.stop(seconds)

    def ask_to(self, what: str) -> None:
        """Leave a wish for whichever process comes by: `die-<step>`, `freeze-<step>`, `blind`."""
        (self.data / "battery").mkdir(parents=True, exist_ok=True)
        (self.data / "battery" / what).touch()

    def withdraw(self, what: str) -> bool:
        """Take a wish back; whether it was still unheard."""
        try:
            (self.data / "battery" / what).unlink()
        except FileNotFoundError:
            return False
        return True

    def done_by(self, what: str) -> int | None:
        """Which process has granted a wish."""
        found = next(iter((self.data / "battery").glob(f"{what}-*")), None)
        return int(found.name.rpartition("-")[2]) if found is not None else None

    def present(self, payment: Any, **how: Any) -> Heard:
        """Present it and remember what was heard."""
        said = callers.present(self.port, payment, **how)
        self.heard.append(said)
        return said

    def insist(self, payment: Any, **how: Any) -> Heard:
        said = callers.insist(lambda: self.port, payment, **how)
        self.heard.append(said)
        return said

    def rows(self) -> list[dict[str, Any]]:
        return invariants.rows_of(self.beneath)

    def row(self, payment: Any) -> dict[str, Any] | None:
        """The one row of this payment."""
        return next((r for r in self.rows() if invariants.nonce_of(r) == payment.nonce), None)

    def transfers(self) -> list[Transfer]:
        return list(transfers(self.ledgers))

    def moved(self, payment: Any) -> int:
        """How many transfers this payment has made."""
        return sum(each.nonce == payment.nonce for each in self.transfers())

    def open_rows(self) -> int:
        return sum(row["state"] in invariants.OPEN for row in self.rows())

    def settle_down(self, seconds: float = QUIET_SECONDS) -> None:
        """Wait until nothing is under way any more, as long as recovery may take."""
        if self.has_bug:  # nothing better is expected
            seconds = 8
        eventually(lambda: not self.open_rows(), seconds)

    def violations(self) -> list[str]:
        found = invariants.violations(
            self.beneath, self.transfers(), dict(self.claude.asked), list(self.heard)
        )
        audit = Audit(
            self.store.audit,
            self.store.ledger,
            SystemClock(),
            opening_seconds=self.settings.first_content_seconds,
            run_seconds=self.settings.total_seconds,
            play_money=None,
        )
        broken = audit.check().broken
        return found + [f"{each.name}: {', '.join(each.rows[:3])}" for each in broken]

    def log(self) -> str:
        return self.hosts[0].log.read_text(errors="replace")

    def publish(self, **changes: Any) -> None:
        """ada's haiku, with changes."""
        template: dict[str, Any] = {
            "name": "Haiku",
            "price": PRICE,
            "system_prompt": "Words about {topic}{/topic}.",
            "parameters": [{"name": "topic"}],
        } | changes
        self.services.resources.publish(self.ada, TemplateDraft(slug="haiku", **template))


@contextmanager
def house(
    site: Site,
    seed: int,
    *,
    workers: int = 2,
    hosts: int = 1,
    hurry: Mapping[str, float] = MappingProxyType({}),
    bug: str | None = None,
    options: tuple[str, ...] = (),
    **environment: str,
) -> Iterator[House]:
    """Open a house with so many hosts and workers on each; end every process of it afterwards."""
    with ExitStack() as stack:
        site.directory.mkdir(parents=True, exist_ok=True)
        claude = stack.enter_context(BatteryClaude(_answer))
        ports = [free_port() for _ in range(hosts)]
        data = site.directory / "data"
        under = stack.enter_context(beneath(data, site.postgres))
        if isinstance(under, Project):
            project.alter(under, hurry, bug)
        settings = under.told(
            replace(
                Settings(),
                data=data,
                claude_url=claude.url,
                public_url=f"http://127.0.0.1:{ports[0]}",
                keys=f"k1:{base64.b64encode(os.urandom(32)).decode()}",
            )
        )
        both = ledgers(data)
        for ledger in both:
            stack.callback(ledger.close)
        joined = both[1].join(both[0].join(x402FacilitatorSync()))
        facilitator = stack.enter_context(BatteryFacilitator(joined))
        services = build_services(settings, replace(money_of(settings), networks=BOTH))
        stack.callback(services.close)
        ours = store(settings)
        stack.callback(ours.database.close)
        ada = ours.catalogue.add_user("ada")
        services.integrations.save_claude_config(ada, Secret(CREATOR_KEY))
        services.integrations.save_pay_to(ada, PAY_TO)
        theirs = ("ANTHROPIC_", "X402", "CLAUDE_", "GUNICORN_", "LOG_LEVEL", "ENV", "BATTERY_")
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith((*theirs, "SUPABASE_", "LIMIT_", "REDIS_"))
        }
        opened = House(
            settings=settings,
            beneath=under,
            store=ours,
            services=services,
            ada=ada,
            purse=Purse(seed),
            claude=claude,
            facilitator=facilitator,
            ledgers=both,
            hosts=[
                Host(
                    data=(own := data if number == 0 else site.directory / f"data-{number}"),
                    port=port,
                    log=site.directory / "server.log",
                    environment={
                        **inherited,
                        "PYTHONPATH": str(ROOT),
                        "X402JOBS_DATA": str(own),
                        "X402JOBS_KEYS": settings.keys,
                        "X402JOBS_BIND": f"127.0.0.1:{port}",
                        "PUBLIC_URL": settings.public_url,
                        "CLAUDE_URL": claude.url,
                        "PAYER_CALLS_AT_ONCE": "1000",  # a few wallets are the whole crowd's
                        "SETTLEMENTS_AT_ONCE": "1000",
                        "BATTERY_FACILITATOR": facilitator.url,
                        "BATTERY_DATA": str(data),
                        "BATTERY_HURRY": json.dumps(dict(hurry)),
                        **({"BATTERY_BUG": bug} if bug else {}),
                        **under.environment,
                        **environment,
                    },
                    options=("-w", str(workers), *options),
                )
                for number, port in enumerate(ports)
            ],
            staff=hosts * workers,
            random=random.Random(f"house {seed}"),
            seed=seed,
            has_bug=bug is not None,
        )
        opened.publish()
        for host in opened.hosts:
            stack.callback(host.end)
        opened.start()
        yield opened


def _answer(topic: str) -> str:
    return f"Rain for {topic}, " * 6 + "and the sun."


def timed(part: Callable[..., Report], *arguments: Any, **more: Any) -> Report:
    """Run a part of the battery, and note how long it took."""
    began = time.monotonic()
    report = part(*arguments, **more)
    report.seconds = time.monotonic() - began
    return report
