"""Callers who leave at any moment, and callers who do not read."""

import random
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from tests.battery import callers
from tests.battery.held import Line, forget_highest, kilobytes, most_at_once, settled, watch
from tests.battery.house import House, Report, Site, house
from tests.battery.invariants import nonce_of
from tests.battery.money import Presented
from tests.waiting import eventually

WAYS = ("FIN", "RST", "half")
PACES: Mapping[str, dict[str, Any]] = {
    "silent before its headers": {"afterDeltas": -1, "stallSeconds": 4},
    "silent before a word": {"afterDeltas": 0, "stallSeconds": 4},
    "silent after three": {"afterDeltas": 3, "stallSeconds": 2},
    "slow": {"deltaMs": 40},
    "at once": {"deltaMs": 0},
}
"""How Claude speaks."""
RELEASE_SECONDS = 2.0
WRITE_SECONDS, TOLERANCE_SECONDS = 10.0, 2.0
"""How long one write may take (spec/money.md, A caller who leaves)."""
LONG = (" " * 16_380 + "rain") * 64
"""The longest answer there is: 1 MiB, in memory as on the line."""
CALLER_KILOBYTES, SPARE_KILOBYTES = 2304, 24 * 1024
"""What a caller who does not read may cost: the transcript, the copy of it that is being written
from, a quarter of a megabyte; and once, for whatever passes through meanwhile."""


@dataclass(frozen=True)
class Leaver:
    """Who left, how, and when (unix seconds)."""

    payment: Presented
    way: str
    left: float


def leavers(site: Site, seed: int, times: int, at_once: int = 40, bug: str | None = None) -> Report:
    """Before settlement: released, Claude hung up on, nothing charged. After it: completed."""
    report, counts = Report("callers who leave", seed), Counter[str]()
    with house(site, seed, workers=1, bug=bug, LOG_LEVEL="ERROR") as shop:
        (worker,) = shop.workers()

        def pace(topic: str) -> str:
            return random.Random(f"{seed} {topic}").choice(tuple(PACES))

        def come(number: int) -> Leaver:
            rng = random.Random(f"leaver {seed} {number}")
            payment, way = shop.purse.next(), rng.choice(WAYS)
            connection = callers.dial(shop.port, payment)
            if rng.random() < 0.5:  # else as likely as not the money has not moved
                with suppress(OSError):
                    connection.recv(1)
            time.sleep(rng.uniform(0, 1.0))
            left = time.time()
            callers.hang_up(connection, way)
            if way == "half":
                with suppress(OSError):
                    while connection.recv(65536):
                        pass
            connection.close()
            return Leaver(payment, way, left)

        for _ in range(12):  # on both networks, so that every file is open
            shop.present(shop.purse.next())
        before = settled(shop, worker)
        shop.claude.play = lambda topic: PACES[pace(topic)]
        with ThreadPoolExecutor(at_once) as crowd:
            came = list(crowd.map(come, range(times)))
        shop.settle_down()
        shop.claude.play = lambda topic: {}
        rows = {nonce_of(row): row for row in shop.rows()}
        moved = Counter(transfer.nonce for transfer in shop.transfers())
        for each in came:
            nonce = each.payment.nonce
            end = _judge(shop, each, rows.get(nonce), moved[nonce], report)
            counts.update([each.way, end, f"{end} while Claude was {pace(each.payment.topic)}"])
        after = settled(shop, worker, before)
        if after.exceeds(before):
            report.violations.append(f"nothing leaks: {before} before, {after} after")
        report.violations += shop.violations()
        report.counts = {"callers": times, **dict(sorted(counts.items()))}
        report.counts |= {"held before": before, "held after": after}
    return report


def _judge(
    shop: House, leaver: Leaver, row: dict[str, Any] | None, moved: int, report: Report
) -> str:
    payment, way = leaver.payment, leaver.way
    if row is None:
        if moved or shop.claude.asked[payment.topic]:
            report.violations.append(f"left ({way}): no row, {moved} transfers")
        return "unheard"
    if not moved:
        if row["state"] != "released":
            report.violations.append(f"left unpaid ({way}): the row is {row['state']}")
        for call in shop.claude.calls_of.get(payment.topic, []):
            until = call["hungUpAt"] or call["finishedAt"]
            if until is None or until - max(leaver.left, call["startedAt"]) > RELEASE_SECONDS:
                report.violations.append(f"left unpaid ({way}): Claude was kept waiting")
        return "released"
    again = shop.present(payment)
    if (row["state"], again.brief, again.text) != ("completed", "200 done", payment.answer):
        report.violations.append(f"left after paying ({way}): {row['state']}, {again.brief}")
    if shop.claude.asked[payment.topic] != 1:
        report.violations.append(f"left after paying ({way}): {shop.claude.asked[payment.topic]}")
    return "completed"


def never_read(
    site: Site, seed: int, times: int, limit: float | None = None, bug: str | None = None
) -> Report:
    """Cut when one write has taken too long; their runs, and everybody else, notice nothing.

    `limit` is the seconds a write may take instead of the product's.
    """
    report = Report("callers who do not read", seed)
    hurry = {"x402jobs.worker.WRITE_SECONDS": limit} if limit is not None else None
    with house(site, seed, workers=1, hurry=hurry, bug=bug, LOG_LEVEL="ERROR") as shop:
        (worker,) = shop.workers()
        for _ in range(12):
            shop.present(shop.purse.next())
        before = settled(shop, worker)
        forget_highest(worker)
        low = kilobytes(worker)
        deaf = [shop.purse.next() for _ in range(times)]
        topics = {payment.topic for payment in deaf}
        shop.claude.play = lambda topic: {"text": LONG} if topic in topics else {}
        lines, over = dict[int, Line](), Event()
        watcher = Thread(target=watch, args=(shop.port, lines, over))
        watcher.start()
        connections = [callers.dial(shop.port, payment, narrow=True) for payment in deaf]
        ports = [connection.getsockname()[1] for connection in connections]
        # Whoever comes in the midst of them is served.
        meanwhile = shop.present(shop.purse.next())
        eventually(lambda: all(p in lines and lines[p].cut_at for p in ports), 40 + times / 5)
        over.set()
        watcher.join()
        high = kilobytes(worker)
        for connection in connections:
            connection.close()
        if meanwhile.brief != "200 done":
            report.violations.append(f"others are served: {meanwhile.brief}")
        blocked = sorted(lines[port].blocked_seconds for port in ports)
        for seconds in blocked:
            if abs(seconds - (limit or WRITE_SECONDS)) > TOLERANCE_SECONDS:
                report.violations.append(f"cut in time: after {seconds:.1f} s")
        together = most_at_once(lines[port] for port in ports)
        bound = low + SPARE_KILOBYTES + together * CALLER_KILOBYTES
        if high > bound:
            report.violations.append(f"memory is bounded: {high} KB, not {bound}")
        shop.settle_down()
        rows = {nonce_of(row): row for row in shop.rows()}
        for payment in deaf:
            if (state := rows.get(payment.nonce, {}).get("state")) != "completed":
                report.violations.append(f"their run notices nothing: the row is {state}")
        for payment in deaf[:3]:
            again = callers.present(shop.port, payment)
            if (again.brief, again.text) != ("200 done", LONG):
                report.violations.append(f"the answer waits for them: {again.brief}")
        after = settled(shop, worker, before)
        if after.exceeds(before):
            report.violations.append(f"nothing leaks: {before} before, {after} after")
        report.violations += shop.violations()
        report.counts = {
            "callers": times,
            "at once": together,
            "cut after": f"{blocked[0]:.1f} to {blocked[-1]:.1f} s",
            "memory": f"{low // 1024} -> {high // 1024} MB, at most {bound // 1024}",
            "held before": before,
            "held after": after,
        }
    return report
