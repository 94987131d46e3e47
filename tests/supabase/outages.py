"""A database that stops, hangs and takes no writes, again and again, under paid calls."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.conftest import events
from tests.supabase.front import Fault
from tests.supabase.postgres import Postgres
from tests.supabase.rig import Rig
from tests.waiting import eventually
from tests.wire.conftest import Server, serving
from x402jobs.wiring import audit

CALLERS = 3
OUTAGE_SECONDS = 1.0
RECOVERY_SECONDS = 5.0
QUIET_SECONDS = 60.0
OPEN = ("claimed", "settling", "settled")
HONEST = {"done", "STORE_UNAVAILABLE", "SETTLEMENT_UNKNOWN", "IN_PROGRESS"}
"""What a caller may be told. Each but the first says that the same payment may be shown again."""


@dataclass
class Report:
    """What was told, how long it took to sell again, and what must not have been."""

    outages: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    transfers: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        longest = max(self.recoveries, default=0.0)
        mean = sum(self.recoveries) / max(1, len(self.recoveries))
        return "\n".join(
            [
                f"outages     {dict(self.outages)}",
                f"told        {dict(Counter(self.told))}",
                f"selling     {mean:.1f} s after the database's return, {longest:.1f} s at most",
                f"rows        {dict(self.rows)}, transfers {self.transfers}",
                f"violations  {self.violations or 'none'}",
            ]
        )


def outages(
    postgres: Postgres, directory: Path, times: int, patience: float = RECOVERY_SECONDS
) -> Report:
    """So many outages, each of another kind, while gunicorn sells over a project of its own.

    It has so many seconds to sell again.
    """
    report = Report()
    with serving(directory, postgres=postgres) as shop:
        rig: Rig = shop.beneath.rig  # type: ignore[attr-defined]
        shop.payment()  # the quote is kept, so that signing asks nobody
        stop = threading.Event()
        with ThreadPoolExecutor(CALLERS) as callers:
            calling = [callers.submit(_call_until, stop, shop, report) for _ in range(CALLERS)]
            try:
                for kind in itertools.islice(itertools.cycle(KINDS), times):
                    report.outages[kind] += 1
                    with KINDS[kind](rig):
                        time.sleep(OUTAGE_SECONDS)
                    report.recoveries.append(_recovery(shop, report, patience))
            finally:
                stop.set()
            for each in calling:
                each.result()
        _look(shop, report)
    return report


def _call_until(stop: threading.Event, shop: Server, report: Report) -> None:
    while not stop.is_set():
        report.told.append(_bought(shop, report))


def _bought(shop: Server, report: Report) -> str:
    """How one paid call ended."""
    try:
        reply = shop.post(headers=shop.payment())
    except httpx.TransportError as error:
        report.violations.append(f"no answer: {type(error).__name__}")
        return "no answer"
    if reply.status_code == 200:
        last = events(reply.content)[-1]
        how = str(last.get("code") or last["type"])
    else:
        how = str(reply.json().get("code"))
    if how not in HONEST:
        report.violations.append(f"told {reply.status_code} {how}")
    return how


def _recovery(shop: Server, report: Report, patience: float) -> float:
    """Seconds until a call is sold to its end."""
    began = time.monotonic()
    while time.monotonic() < began + 30:
        if _bought(shop, report) == "done":
            break
    seconds = time.monotonic() - began
    if seconds > patience:
        report.violations.append(f"sold nothing for {seconds:.1f} s")
    return seconds


def _look(shop: Server, report: Report) -> None:
    """What is in the books, once recovery has been at them."""
    if not eventually(lambda: not {*shop.states()} & {*OPEN}, QUIET_SECONDS):
        report.violations.append(f"rows still open: {Counter(shop.states())}")
    rows = shop.rows()
    report.rows = Counter(row["state"] for row in rows)
    transfers = shop.transfers()
    report.transfers = len(transfers)
    durable = {row["transaction"] for row in rows}
    report.violations += [
        f"charged without a row: {each.transaction}"
        for each in transfers
        if each.transaction not in durable
    ]
    if report.rows["completed"] < report.told.count("done"):
        report.violations.append("more answers than completed rows")
    found = audit(shop.settings).check()
    report.violations += [f"ledger check: {each.name} {each.rows}" for each in found.broken]


@contextmanager
def stopped(rig: Rig) -> Iterator[None]:
    """As by a power cut."""
    rig.postgres.stop("immediate")
    try:
        yield
    finally:
        rig.postgres.start()


@contextmanager
def restarted(rig: Rig) -> Iterator[None]:
    """In good order."""
    rig.postgres.stop("fast")
    try:
        yield
    finally:
        rig.postgres.start()


@contextmanager
def read_only(rig: Rig) -> Iterator[None]:
    """As Supabase does with a database whose disk is full."""
    _set_read_only(rig, "on")
    try:
        yield
    finally:
        _set_read_only(rig, "off")


def _set_read_only(rig: Rig, switch: str) -> None:
    alter = f"alter database {rig.database} set default_transaction_read_only = {switch}"
    rig.postgres.sql("postgres", alter)
    rig.postgres.sql(
        "postgres",
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s",
        rig.database,
    )


@contextmanager
def slow(rig: Rig) -> Iterator[None]:
    """Every answer comes later than anybody waits; what was asked has happened."""
    rig.front.always(Fault(late_seconds=8))
    try:
        yield
    finally:
        rig.front.forget()


KINDS: dict[str, Callable[[Rig], AbstractContextManager[None]]] = {
    "stopped": stopped,
    "read-only": read_only,
    "slow": slow,
    "restarted": restarted,
}
