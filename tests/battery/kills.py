"""kill -9 of a worker or the whole group at random, under load, among peers who lose and cut."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event, Lock, Thread
from types import MappingProxyType

from tests.battery.callers import Heard, one_of
from tests.battery.house import House, Report, Site, house
from tests.battery.invariants import tally
from tests.battery.money import Presented
from tests.battery.peers import HONEST
from x402jobs.devkit.facilitator_server import Script as Fault

LOST, SLOW, CUT, VANISH, DUPLICATE, RETURN = 0.08, 0.02, 0.07, 0.10, 0.15, 0.3
"""Shares: settle answers lost after the money moved, or late; Claude cut; callers who vanish, who
present several times at once, who come back."""


def kills(
    site: Site,
    seed: int,
    kills: int,
    authorizations: int,
    callers: int = 24,
    hurry: Mapping[str, float] = MappingProxyType({}),
    bug: str | None = None,
) -> Report:
    """Goes on until there have been so many kills and so many authorizations, then looks."""
    report = Report("kill -9 at random", seed)
    done: Counter[str] = Counter()
    with house(site, seed, hosts=site.hosts, hurry=hurry, bug=bug, LOG_LEVEL="ERROR") as shop:
        _be_lossy(shop)
        stop, crowd = Event(), Crowd(shop)
        threads = [
            Thread(target=crowd.live, args=[number, stop], name=f"caller-{number}")
            for number in range(callers)
        ]
        for thread in threads:
            thread.start()
        try:
            while done.total() < kills or crowd.presented < authorizations:
                time.sleep(shop.random.uniform(0.1, 1.0))
                if done.total() < kills:
                    done[_kill(shop)] += 1
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        _be_honest(shop)
        shop.settle_down()
        came_back = _all_come_back(shop, report) if bug is None else 0
        shop.settle_down()
        report.violations += shop.violations()
        rows = shop.rows()
        report.counts = {
            **done,
            "authorizations": len(shop.purse.taken),
            "presentations": len(shop.heard),
            "rows": len(rows),
            "transfers": len(shop.transfers()),
            "model calls": sum(shop.claude.asked.values()),
            **tally(rows),
            "re-runs": sum(row["reruns"] for row in rows),
            "came back": came_back,
        }
    return report


class Crowd:
    """Callers, some of them honest."""

    def __init__(self, shop: House) -> None:
        self._shop = shop
        self._lock = Lock()
        self.presented = 0

    def live(self, number: int, stop: Event) -> None:
        rng = random.Random(f"caller {self._shop.seed} {number}")
        while not stop.is_set():
            payment = self._shop.purse.next()
            while not self._buy(payment, rng) and not stop.wait(0.1):
                pass

    def _buy(self, payment: Presented, rng: random.Random) -> bool:
        """Present it in one manner or another; False when nobody was there to hear it."""
        shop = self._shop
        times = rng.choice([2, 3, 4]) if rng.random() < DUPLICATE else 1
        leave = rng.randrange(4) if rng.random() < VANISH else None
        comes_back = rng.random() < RETURN
        ways = [(one_of(rng, payment), rng.random() < 0.2) for _ in range(times)]

        def come(way: tuple[int, bool]) -> Heard:
            return shop.present(payment, wrapping=way[0], as_json=way[1], leave_after=leave)

        if times == 1:
            said = [come(ways[0])]
        else:
            with ThreadPoolExecutor(times) as at_once:
                said = list(at_once.map(come, ways))
        if leave is None and all(each.status is None for each in said):
            # Refused at the door, or lost within: the ledger knows, and so does the caller soon.
            return False
        with self._lock:
            self.presented += 1
        if comes_back:
            time.sleep(rng.uniform(0, 0.3))
            come((one_of(rng, payment), False))
        return True


def _be_lossy(shop: House) -> None:
    def facilitator(at: str, nonce: str, signed: dict[str, object]) -> Fault:
        share = random.Random(f"{shop.seed} {at} {nonce}").random()
        if at == "settle" and share < LOST:
            return Fault("settle", cutAt=0)
        if at == "settle" and share < LOST + SLOW:
            return Fault("settle", silence=0.5)
        return HONEST

    def claude(topic: str) -> dict[str, object]:
        rng = random.Random(f"{shop.seed} {topic} {shop.claude.asked[topic]}")
        script: dict[str, object] = {"deltaMs": rng.choice([0, 0, 5, 20])}
        if rng.random() < CUT:
            script |= {"cutAtByte": rng.randrange(1000, 2500), "clean": rng.random() < 0.5}
        return script

    shop.facilitator.play, shop.claude.play = facilitator, claude


def _be_honest(shop: House) -> None:
    shop.facilitator.play = lambda at, nonce, signed: HONEST
    shop.claude.play = lambda topic: {}
    if not shop.answers():
        shop.kill_group()
        shop.start()


def _kill(shop: House) -> str:
    host = shop.random.choice(shop.hosts)
    workers = host.workers()
    if shop.random.random() < 0.1 or not workers:
        host.kill_group()
        host.start()
        return "group kills"
    with suppress(ProcessLookupError):
        os.kill(shop.random.choice(workers), signal.SIGKILL)
    return "worker kills"


def _all_come_back(shop: House, report: Report) -> int:
    """Whoever paid gets their answer in the end: every debt is run again, every answer replayed.

    Those whose window has closed meanwhile, and who have not paid, are told so.
    """
    moved = {transfer.nonce for transfer in shop.transfers()}
    paid = [payment for payment in shop.purse.taken if payment.nonce in moved]

    def come(payment: Presented) -> Heard:
        return shop.insist(payment, seconds=60)

    with ThreadPoolExecutor(8) as honest:
        for said in honest.map(come, paid):
            spent = said.code == "CONFLICT"  # its three re-runs were cut or killed as well
            if (said.brief, said.text) != ("200 done", said.payment.answer) and not spent:
                report.violations.append(f"who paid is answered: {said.brief}")
    return len(paid)
