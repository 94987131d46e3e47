"""One outage after the other: what is told meanwhile, and how soon it is named and over."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.conftest import PRICE
from tests.outages.shop import SILENCE, Shop
from tests.waiting import Found, eventually

NAMED_SECONDS = 10.0
BACK_SECONDS = 5.0
HEALTH_SECONDS = 1.0
"""What the battery asks for. The suite, whose machine has other things to do, asks for no times."""
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Outage:
    """What goes away, which check names it, and what callers may hear meanwhile.

    `first` is what the very first call may hear, before anybody knows. `free` is what a call that
    costs nothing hears: not asked without a database, whose return its ending waits for.
    """

    check: str
    begin: Callable[[Shop], AbstractContextManager[None]]
    told: frozenset[str]
    first: frozenset[str] = frozenset()
    free: str | None = "done"


DOWN = frozenset({"FACILITATOR_UNAVAILABLE"})
STORE = frozenset({"STORE_UNAVAILABLE"})
UNKNOWN = frozenset({"SETTLEMENT_UNKNOWN"})

OUTAGES: Mapping[str, Outage] = {
    "facilitator refuses": Outage("facilitator", Shop.facilitator_gone, DOWN),
    "facilitator is silent": Outage(
        "facilitator", lambda shop: shop.facilitator_says(silence=SILENCE), DOWN
    ),
    "facilitator says garbage": Outage(
        "facilitator", lambda shop: shop.facilitator_says(body="<html>oops</html>"), DOWN
    ),
    "facilitator fails": Outage(
        "facilitator", lambda shop: shop.facilitator_says(status=500, body="{}"), DOWN
    ),
    "node refuses": Outage("chain", Shop.node_gone, DOWN, UNKNOWN),
    "node is silent": Outage("chain", lambda shop: shop.node_says(silence=SILENCE), DOWN, UNKNOWN),
    "node says garbage": Outage(
        "chain", lambda shop: shop.node_says(body="<html>oops</html>"), DOWN, UNKNOWN
    ),
    "file locked": Outage("database", Shop.file_locked, STORE, free=None),
    "disk full": Outage("database", Shop.disk_full, STORE, free=None),
    "Redis gone": Outage("limits", Shop.redis_gone, frozenset({"done"}), free="LIMITS_UNAVAILABLE"),
}


@dataclass
class Report:
    """What one outage has shown."""

    name: str
    reason: str | None = None
    told: list[str] = field(default_factory=list)
    named: float = 0.0
    healthy: float = 0.0
    ready: float = 0.0
    selling: float = 0.0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        said = ", ".join(dict.fromkeys(self.told))
        return (
            f"{self.name:26} named {self.reason} after {self.named:4.1f} s; told {said}; "
            f"health {self.healthy * 1000:4.0f} ms; back: ready {self.ready:4.1f} s, "
            f"selling {self.selling:4.1f} s; violations: {self.violations or 'none'}"
        )

    def expect(self, holds: object, what: str) -> None:
        if not holds:
            self.violations.append(what)


def outage(shop: Shop, name: str, *, is_timed: bool = True) -> Report:
    """Take it away, look what becomes of calls, bring it back. The shop is as before afterwards."""
    kind, report = OUTAGES[name], Report(name)
    bought = shop.payment()
    report.expect(shop.told(bought) == "done", "nothing was sold before")
    words, unsure = shop.answer(bought), shop.payment()
    before = shop.paid()
    with ThreadPoolExecutor(1) as monitor, kind.begin(shop):
        naming = monitor.submit(_timed, lambda: shop.names(kind.check))
        first = shop.told(unsure)
        report.told.append(first)
        report.expect(first in kind.told | kind.first, f"the first call was told {first}")
        report.reason, report.named = naming.result()
        report.expect(report.reason, f"/readyz does not name {kind.check}")
        report.healthy = shop.health()
        for _ in range(2):
            told = shop.told(shop.payment())
            report.told.append(told)
            report.expect(told in kind.told, f"told {told}")
        report.expect(shop.answer(bought) == words != "", "what was bought is not told again")
        if kind.free is not None:
            report.expect(shop.free() == kind.free, f"a free call does not hear {kind.free}")
        if "done" not in kind.told:
            charged = shop.paid() - before
            most = PRICE if first in UNKNOWN else 0
            report.expect(charged <= most, f"charged {charged}")
    with ThreadPoolExecutor(1) as monitor:
        becoming = monitor.submit(_timed, shop.is_ready)
        sells, report.selling = _timed(lambda: shop.told(shop.payment()) == "done")
        report.expect(sells, "sells no more")
        is_ready, report.ready = becoming.result()
        report.expect(is_ready, "does not become ready")
    # Whoever did not know keeps to their payment, and has their answer for one price.
    report.expect(
        eventually(lambda: shop.told(unsure) == "done", PATIENCE_SECONDS), "the first got nothing"
    )
    rows = shop.server.rows()
    sold = sum((row["kind"], row["state"]) == ("paid", "completed") for row in rows)
    report.expect(sold * PRICE == shop.paid(), f"{sold} answers, {shop.paid()} paid")
    report.violations += shop.findings()
    if is_timed:
        seconds = {
            "named": (report.named, NAMED_SECONDS),
            "healthy": (report.healthy, HEALTH_SECONDS),
            "selling": (report.selling, BACK_SECONDS),
            "ready": (report.ready, BACK_SECONDS),
        }
        for what, (took, limit) in seconds.items():
            report.expect(took <= limit, f"{what} after {took:.1f} s, more than {limit:.0f}")
    return report


def _timed(look: Callable[[], Found]) -> tuple[Found, float]:
    """What is found at last, and after how many seconds."""
    began = time.monotonic()
    found = eventually(look, PATIENCE_SECONDS)
    return found, time.monotonic() - began
