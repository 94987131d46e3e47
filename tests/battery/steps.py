"""kill -9 at each named step, and a worker frozen there that comes back too late."""

import os
import signal
import time
from dataclasses import dataclass
from threading import Thread

from tests.battery.house import HURRIED, House, Report, Site, house
from tests.battery.money import Presented
from tests.waiting import eventually


@dataclass(frozen=True)
class End:
    """What has to be found after a death: at once, after the take-over, and for who comes again.

    `state` None: no row. `calls` are those of Claude's in the end, `transfers` those before the
    payment is presented again: afterwards there is one.
    """

    state: str | None
    at_once: str
    taken_over: str | None
    transfers: int
    calls: int


EXPECTED = {
    "claiming": End(None, "", None, 0, 1),
    "claimed": End("claimed", "409 IN_PROGRESS", "released", 0, 1),
    "verified": End("claimed", "409 IN_PROGRESS", "released", 0, 1),
    "opened": End("claimed", "409 IN_PROGRESS", "released", 0, 2),
    "settling": End("settling", "503 SETTLEMENT_UNKNOWN", "refund_due", 1, 2),
    "moved": End("settling", "503 SETTLEMENT_UNKNOWN", "refund_due", 1, 2),
    "settled": End("settled", "409 IN_PROGRESS", "refund_due", 1, 2),
    "speaking": End("settled", "409 IN_PROGRESS", "refund_due", 1, 2),
    "completing": End("settled", "409 IN_PROGRESS", "refund_due", 1, 2),
    "completed": End("completed", "200 done", "completed", 1, 1),
}
"""research/reliability.md, 4.2. A settlement that was never asked for is asked for by recovery."""


LONG_ENOUGH = 3600
"""The payer of the first death comes again when the last one has died, in seconds."""


def deaths(site: Site, seed: int, times: int, workers: int = 2) -> Report:
    """A worker dies at every step, so many times over; the payer comes at once, and again later."""
    report, dead = Report("kill -9 at each step", seed), list[tuple[str, Presented]]()
    with house(site, seed, workers=workers // site.hosts, hosts=site.hosts, hurry=HURRIED) as shop:
        for _ in range(times):
            for step in EXPECTED:
                dead.append((step, _die_at(shop, step, report)))
        expected = [EXPECTED[step].taken_over for step, _ in dead]

        def taken_over() -> bool:
            return [_state(shop, payment) for _, payment in dead] == expected

        eventually(taken_over, 30)
        for step, payment in dead:
            _come_again(shop, step, payment, report)
        shop.settle_down(5)
        report.violations += shop.violations()
        report.counts = {"steps": len(EXPECTED), "kills": len(dead)}
    return report


def _die_at(shop: House, step: str, report: Report) -> Presented:
    payment, expected = shop.purse.next(validBefore=_in(LONG_ENOUGH)), EXPECTED[step]
    wish = f"die-{step}"
    shop.ask_to(wish)
    said = shop.present(payment)
    if not eventually(lambda: shop.done_by(wish), 10):
        report.violations.append(f"died at {step}: nobody came by; {said.brief}")
        shop.withdraw(wish)
    for granted in (shop.data / "battery").glob(f"{wish}-*"):
        granted.unlink()
    at = _state(shop, payment)
    if said.done or said.error:
        report.violations.append(f"died at {step}: {said.brief} was heard all the same")
    if at != expected.state:
        report.violations.append(f"died at {step}: the row is {at}, not {expected.state}")
    if expected.at_once:
        again = shop.present(payment, wrapping=1)
        if again.brief != expected.at_once:
            report.violations.append(f"died at {step}: at once {again.brief}")
    eventually(lambda: len(shop.workers()) == shop.staff, 20)
    return payment


def _come_again(shop: House, step: str, payment: Presented, report: Report) -> None:
    expected = EXPECTED[step]
    found = (_state(shop, payment), shop.moved(payment))
    if found != (expected.taken_over, expected.transfers):
        report.violations.append(f"died at {step}: taken over as {found}")
    again = shop.insist(payment, wrapping=1)
    row = shop.row(payment)
    reruns = int(expected.taken_over == "refund_due")
    end = (
        *(again.brief, again.text == payment.answer, _state(shop, payment), shop.moved(payment)),
        *(shop.claude.asked[payment.topic], row["reruns"] if row else None),
    )
    if end != ("200 done", True, "completed", 1, expected.calls, reruns):
        report.violations.append(f"died at {step}: in the end {end}")


CUT = ("settled", "speaking")
FROZEN = ("claimed", "opened", "settling", "moved", "settled", "speaking", "completing")


def freezes(
    site: Site, seed: int, times: int, steps: tuple[str, ...] = FROZEN, bug: str | None = None
) -> Report:
    """A worker is stopped at a step until others have ended its row and served the payer.

    Whatever it does when it goes on, the row and the payer's answer stay.
    """
    report = Report("frozen at a step", seed)
    with house(site, seed, hosts=site.hosts, hurry=HURRIED, bug=bug) as shop:
        for _ in range(times):
            for step in steps:
                _freeze_at(shop, step, report)
        shop.settle_down()
        report.violations += shop.violations()
        report.counts = {"steps": len(steps), "freezes": len(steps) * times}
    return report


def _freeze_at(shop: House, step: str, report: Report) -> None:
    payment, wish = shop.purse.next(validBefore=_in(600)), f"freeze-{step}"
    # The one who comes back too late has nothing good to say.
    shop.claude.play = lambda topic: (
        {"cutAtByte": 1500} if step in CUT and shop.claude.asked[topic] == 1 else {}
    )
    shop.ask_to(wish)
    first = Thread(target=lambda: shop.present(payment))
    first.start()
    pid = eventually(lambda: shop.done_by(wish), 10)
    if pid is None:
        report.violations.append(f"frozen at {step}: nobody came by")
        shop.withdraw(wish)
        first.join()
        return
    again = shop.insist(payment)
    before = _state(shop, payment)
    os.kill(pid, signal.SIGCONT)
    first.join(30)
    for granted in (shop.data / "battery").glob(f"{wish}-*"):
        granted.unlink()
    after = shop.row(payment)
    if (again.brief, before) != ("200 done", "completed") or first.is_alive():
        report.violations.append(f"frozen at {step}: {again.brief}, {before}")
    if after is None or after["state"] != "completed" or not after["has_answer"]:
        state = after and after["state"]
        report.violations.append(f"frozen at {step}: woke up and made it {state}")


def _state(shop: House, payment: Presented) -> str | None:
    row = shop.row(payment)
    return row["state"] if row is not None else None


def _in(seconds: int) -> str:
    return str(int(time.time()) + seconds)
