"""A facilitator that lies, loses, delays, repeats and denies, and payers who are drained."""

import itertools
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.battery.callers import Heard
from tests.battery.house import HURRIED, House, Report, Site, house
from tests.battery.money import Presented
from tests.battery.peers import HONEST
from tests.conftest import PAY_TO
from tests.waiting import eventually
from x402jobs.devkit.facilitator_server import Script as Fault
from x402jobs.domain.payment import Authorization

PATIENCE = HURRIED | {"x402jobs.services.settlement.CONFIRM_SECONDS": 2.0}
"""How long a caller waits for the chain to show what the facilitator claims: 2 s for 30."""
NOWHERE = "0x" + "77" * 32
DENIED = {"success": False, "network": "", "transaction": "", "errorReason": "transaction_failed"}
UNCOVERED = {
    "success": False,
    "network": "",
    "transaction": "",
    "errorReason": "invalid_exact_evm_insufficient_balance",
}
CLAIMED = {"success": True, "transaction": NOWHERE, "network": "", "payer": ""}


@dataclass(frozen=True)
class Lie:
    """What becomes of a settlement's answer; whether it moves; whether the chain is blind to it.

    `first` is what the payer hears at once, `transfers` what has moved by then.
    """

    fault: Fault
    first: str
    transfers: int
    blind: bool = False


LIES: Mapping[str, Lie] = {
    "success without moving": Lie(
        Fault("settle", unheard=True, change=CLAIMED), "503 SETTLEMENT_UNKNOWN", 0
    ),
    "another's transaction": Lie(Fault("settle", change={"transaction": NOWHERE}), "200 done", 1),
    "loses the answer": Lie(Fault("settle", cutAt=0), "200 done", 1),
    "loses the answer, chain blind": Lie(
        Fault("settle", cutAt=0), "503 SETTLEMENT_UNKNOWN", 1, blind=True
    ),
    "loses the question": Lie(Fault("settle", unheard=True, cutAt=0), "503 SETTLEMENT_UNKNOWN", 0),
    "answers too late": Lie(Fault("settle", silence=3), "200 done", 1),
    "fails after mining": Lie(Fault("settle", change=DENIED), "200 done", 1),
    "denies cover after mining": Lie(Fault("settle", change=UNCOVERED), "200 done", 1),
    "denies, chain blind": Lie(
        Fault("settle", change=UNCOVERED), "503 SETTLEMENT_UNKNOWN", 1, blind=True
    ),
    "fails without moving": Lie(
        Fault("settle", unheard=True, change=DENIED), "503 SETTLEMENT_UNKNOWN", 0
    ),
    "refuses truly": Lie(
        Fault("settle", unheard=True, change=UNCOVERED), "402 PAYMENT_REQUIRED", 0
    ),
    "breaks": Lie(Fault("settle", status=500, body="oops"), "200 done", 1),
    "talks nonsense": Lie(Fault("settle", body="<html>"), "200 done", 1),
}


def liars(site: Site, seed: int, times: int, bug: str | None = None) -> Report:
    """Each lie so many times: nobody is served unpaid, charged twice, or asked anew meanwhile."""
    report = Report("facilitator that lies", seed)
    lied: dict[str, Presented] = {}
    with house(site, seed, workers=1, hurry=PATIENCE, bug=bug, BATTERY_SETTLE_SECONDS="2") as shop:
        owed: list[tuple[str, Presented]] = []
        for name, lie in LIES.items():
            shop.facilitator.play = _playing(lie.fault, lied)
            if lie.blind:
                shop.ask_to("blind")
            owed += _tell(shop, name, times, lied, report)
            if lie.blind:
                shop.withdraw("blind")
            shop.facilitator.play = lambda at, nonce, signed: HONEST
            shop.settle_down(30)
        for name, payment in owed:
            again = shop.insist(payment)
            if (again.brief, again.text) != ("200 done", payment.answer):
                report.violations.append(f"{name}: in the end {again.brief}")
            if shop.moved(payment) != 1:
                report.violations.append(f"{name}: {shop.moved(payment)} transfers")
        report.violations += shop.violations()
        report.counts = {"lies": len(LIES), "payments": len(owed), "each": times}
    return report


def _playing(fault: Fault, lied: dict[str, Presented]) -> Any:
    def play(at: str, nonce: str, signed: dict[str, Any]) -> Fault:
        return fault if at == "settle" and nonce in lied else HONEST

    return play


def _tell(
    shop: House, name: str, times: int, lied: dict[str, Presented], report: Report
) -> Iterator[tuple[str, Presented]]:
    lie, told = LIES[name], []

    def buy(_: int) -> Heard:
        payment = shop.purse.next(validBefore=str(int(time.time()) + 3000))
        lied[payment.nonce] = payment
        while (said := shop.present(payment)).code == "FACILITATOR_UNAVAILABLE":
            time.sleep(0.5)  # after three silences in a row it counts as down: nothing is charged
        return said

    at_once = 16 if lie.fault.change else 2
    with ThreadPoolExecutor(at_once) as callers:
        for said in callers.map(buy, range(times)):
            told.append((name, said.payment))
            moved = shop.moved(said.payment)
            if (said.brief, moved) != (lie.first, lie.transfers):
                report.violations.append(f"{name}: {said.brief}, {moved} transfers")
            if lie.first.startswith("503"):
                _stays_unknown(shop, said.payment, name, report)
    return iter(told)


def _stays_unknown(shop: House, payment: Presented, name: str, report: Report) -> None:
    """While it is not known, whoever comes again is never asked to pay."""
    again = shop.present(payment, wrapping=1)
    if again.brief not in ("503 SETTLEMENT_UNKNOWN", "409 IN_PROGRESS", "200 done"):
        report.violations.append(f"{name}: meanwhile {again.brief}")


def expires(site: Site, seed: int, times: int) -> Report:
    """A lie that is kept up until the authorization has expired: released, nothing was charged."""
    report = Report("lies until the window closes", seed)
    with house(site, seed, workers=1, hurry=PATIENCE) as shop:
        shop.facilitator.play = lambda at, nonce, signed: (
            LIES["success without moving"].fault if at == "settle" else HONEST
        )

        def buy(_: int) -> Heard:
            return shop.present(shop.purse.next(validBefore=str(int(time.time()) + 64)))

        with ThreadPoolExecutor(16) as callers:
            for said in callers.map(buy, range(times)):
                if said.brief != "503 SETTLEMENT_UNKNOWN":
                    report.violations.append(f"expired: first {said.brief}")
        while shop.open_rows() and time.time() < shop.purse.taken[-1].valid_before + 20:
            payment = shop.random.choice(shop.purse.taken)
            asked_at = time.time()
            said = shop.present(payment)
            if said.status == 402 and asked_at < payment.valid_before - 1:
                report.violations.append("expired: asked to pay while it was unknown")
            time.sleep(0.3)
        states = {row["state"] for row in shop.rows()}
        if states != {"released"} or shop.transfers():
            report.violations.append(f"expired: {states}, {len(shop.transfers())} transfers")
        report.violations += shop.violations()
        report.counts = {"payments": times}
    return report


def drained(site: Site, seed: int, times: int) -> Report:
    """The balance is elsewhere between verify and settle: not a byte of the answer leaves."""
    report = Report("verify, then drain", seed)
    turn = itertools.count(1)
    with house(site, seed, workers=1) as shop:

        def move_away(at: str, signed: dict[str, Any]) -> None:
            if at == "settle":
                payer = signed["from"].lower()
                for ledger in shop.ledgers:
                    if balance := ledger.balance(payer):
                        nonce = f"0x{next(turn):064x}"
                        thief = PAY_TO.lower().replace("ada", "bad")
                        ledger.move(Authorization(payer, thief, balance, 0, 2**40, nonce))

        shop.facilitator.before = move_away
        shop.claude.play = lambda topic: {"deltaMs": 200}

        def buy(_: int) -> Heard:
            return shop.present(shop.purse.next(fresh_wallet=True))

        with ThreadPoolExecutor(8) as callers:
            for said in callers.map(buy, range(times)):
                if said.brief != "402 PAYMENT_REQUIRED" or said.text or b"Rain" in said.body:
                    report.violations.append(f"drained: {said.brief} {said.text!r}")
                if shop.moved(said.payment):
                    report.violations.append("drained: the payment moved all the same")
                (call,) = shop.claude.calls_of[said.payment.topic]
                # Bound here, or it would be the next one's; mypy infers no default's type (misc).
                if not eventually(lambda call=call: call["hungUp"], 3):  # type: ignore[misc]
                    report.violations.append("drained: Claude was listened to all the same")
        rows = shop.rows()
        ends = {(row["state"], row["code"]) for row in rows}
        if ends != {("released", UNCOVERED["errorReason"])}:
            report.violations.append(f"drained: rows ended {ends}")
        for row in rows:
            if row["transaction"] is not None:
                report.violations.append("drained: a released row names a transaction")
        report.counts = {"payments": times, "rows": len(rows)}
    return report
