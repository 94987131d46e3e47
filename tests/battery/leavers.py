"""Callers who leave at any moment, and callers who do not read."""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.battery import callers
from tests.battery.house import House, Report, house
from tests.battery.money import Presented
from tests.wire.conftest import eventually

WAYS = ("FIN", "RST", "half")
PACES: tuple[dict[str, Any], ...] = (
    {"afterDeltas": -1, "stallSeconds": 4},
    {"afterDeltas": 0, "stallSeconds": 4},
    {"afterDeltas": 3, "stallSeconds": 2},
    {"deltaMs": 40},
    {"deltaMs": 0},
)
"""How Claude speaks: silent before its headers, before a word, in the middle; slowly; at once."""
RELEASE_SECONDS = 2.0
WRITE_SECONDS = (8.0, 14.0)
"""Ten seconds on one write (spec/money.md), and what the kernels' buffers add to it."""
LONG = "Rain" + ("\u2028" * 200_000 + "and rain ") * 4
"""Five megabytes as the caller gets it: more than a connection's buffers hold."""


def leavers(directory: Path, seed: int, times: int, at_once: int = 40) -> Report:
    """Before settlement: released, Claude hung up on, nothing charged. After it: completed."""
    report, counts = Report("callers who leave", seed), Counter[str]()
    with house(directory, seed, workers=1, LOG_LEVEL="ERROR") as shop:
        (worker,) = shop.workers()
        paces: dict[str, dict[str, Any]] = {}

        def pace(topic: str) -> dict[str, Any]:
            return paces.setdefault(topic, random.Random(f"{seed} {topic}").choice(PACES))

        shop.claude.play = pace

        for _ in range(12):  # on both networks, so that every file is open
            shop.present(shop.purse.next())
        before = _descriptors(shop, worker)

        def come(number: int) -> tuple[Presented, str, float]:
            rng = random.Random(f"leaver {seed} {number}")
            payment, way = shop.purse.next(), rng.choice(WAYS)
            connection = callers.dial(shop.port, payment)
            time.sleep(rng.uniform(0, 1.0))
            left = time.time()
            callers.hang_up(connection, way)
            if way == "half":
                with suppress(OSError):
                    while connection.recv(65536):
                        pass
            connection.close()
            return payment, way, left

        with ThreadPoolExecutor(at_once) as crowd:
            came = list(crowd.map(come, range(times)))
        shop.settle_down()
        shop.claude.play = lambda topic: {}
        for payment, way, left in came:
            counts[_judge(shop, payment, way, left, report)] += 1
        eventually(lambda: _descriptors(shop, worker) <= before, 15)
        after = _descriptors(shop, worker)
        if after > before:
            report.violations.append(f"nothing leaks: {before} descriptors before, {after} after")
        report.violations += shop.violations()
        report.counts = {"callers": times, **counts, "descriptors": f"{before} -> {after}"}
    return report


def _judge(shop: House, payment: Presented, way: str, left: float, report: Report) -> str:
    row, moved = shop.row(payment), shop.moved(payment)
    if row is None:
        if moved or shop.claude.asked[payment.topic]:
            report.violations.append(f"left ({way}): no row, {moved} transfers")
        return "unheard"
    if not moved:
        if row["state"] != "released":
            report.violations.append(f"left unpaid ({way}): the row is {row['state']}")
        for call in shop.claude.calls_of.get(payment.topic, []):
            until = call["hungUpAt"] or call["finishedAt"]
            if until is None or until - max(left, call["startedAt"]) > RELEASE_SECONDS:
                report.violations.append(f"left unpaid ({way}): Claude was kept waiting")
        return "released"
    again = shop.present(payment)
    if (row["state"], again.brief, again.text) != ("completed", "200 done", payment.answer):
        report.violations.append(f"left after paying ({way}): {row['state']}, {again.brief}")
    if shop.claude.asked[payment.topic] != 1:
        report.violations.append(f"left after paying ({way}): {shop.claude.asked[payment.topic]}")
    return "completed"


def never_read(directory: Path, seed: int, times: int) -> Report:
    """Cut after some ten seconds; their run, and everybody else, notice nothing."""
    report = Report("callers who do not read", seed)
    with house(directory, seed, workers=1, LOG_LEVEL="ERROR") as shop:
        (worker,) = shop.workers()
        shop.claude.play = lambda topic: {"text": LONG}
        before = _kilobytes(worker)

        def come(_: int) -> tuple[Presented, float]:
            payment = shop.purse.next()
            connection = callers.dial(shop.port, payment, receive_buffer=4096)
            began, port = time.monotonic(), connection.getsockname()[1]
            eventually(lambda: _state(shop, payment) == "completed", 60)
            eventually(lambda: not _is_open(shop.port, port), 30)
            took = time.monotonic() - began
            connection.close()
            return payment, took

        with ThreadPoolExecutor(times) as crowd:
            came = list(crowd.map(come, range(times)))
        peak = _kilobytes(worker)
        for payment, took in came:
            row = shop.row(payment)
            if row is None or row["state"] != "completed":
                report.violations.append(f"not read: the row is {row and row['state']}")
            if not WRITE_SECONDS[0] < took < WRITE_SECONDS[1] + times / 2:
                report.violations.append(f"not read: cut after {took:.1f} s")
        again = callers.present(shop.port, came[0][0])
        if (again.brief, again.text) != ("200 done", LONG):
            report.violations.append(f"not read: later {again.brief}")
        report.violations += shop.violations()
        seconds = sorted(took for _, took in came)
        report.counts = {
            "callers": times,
            "cut after": f"{seconds[0]:.1f} to {seconds[-1]:.1f} s",
            "memory": f"{before // 1024} -> {peak // 1024} MB",
        }
    return report


def _state(shop: House, payment: Presented) -> str | None:
    row = shop.row(payment)
    return row["state"] if row is not None else None


def _is_open(server: int, caller: int) -> bool:
    """Whether the server still holds its end of a connection, as the kernel sees it."""
    ends = f"0100007F:{server:04X} 0100007F:{caller:04X} 01"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(ends in " ".join(line.split()) for line in lines)


def _descriptors(shop: House, pid: int) -> int:
    """What the process holds, but for the pools of connections to its peers."""
    peers = {f"0100007F:{int(url.rpartition(':')[2]):04X}" for url in shop.peers}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    pooled = {f"socket:[{line[9]}]" for line in lines if line[2] in peers}
    held = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            held += str(descriptor.readlink()) not in pooled
    return held


def _kilobytes(pid: int) -> int:
    """The process's memory, resident, at its highest."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
