"""What a worker holds: memory, descriptors, threads, greenlets, and the lines of its callers."""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import httpx

from tests.battery.house import House

LOOK_SECONDS = 0.02
ESTABLISHED = "01"


@dataclass(frozen=True)
class Held:
    """What must be no more after a crowd of callers than it was before.

    Left out is what is kept for the next caller: the connections to Claude and to the facilitator,
    and the threads of gevent's pool, which looks up names: ten at most, and they end when idle.
    """

    descriptors: int
    threads: int
    system_threads: int
    greenlets: int

    def __str__(self) -> str:
        return (
            f"{self.descriptors} descriptors, {self.threads} threads ({self.system_threads} of the"
            f" system's), {self.greenlets} greenlets"
        )

    def exceeds(self, before: "Held") -> bool:
        return any(after > was for after, was in zip(_numbers(self), _numbers(before), strict=True))


def held(shop: House, pid: int) -> Held:
    """What this worker, the shop's only one, holds while it answers the question."""
    told = httpx.get(f"{shop.settings.public_url}/battery/held", trust_env=False, timeout=30).json()
    return Held(
        descriptors=_descriptors(shop, pid),
        threads=told["threads"],
        system_threads=_status(pid, "Threads") - told["pooled"],
        greenlets=told["greenlets"],
    )


def settled(shop: House, pid: int, before: Held | None = None, seconds: float = 20) -> Held:
    """The same, once no more than `before`, or else the same for a second; or when time is up."""
    until, last, since = time.monotonic() + seconds, held(shop, pid), time.monotonic()
    while time.monotonic() < until:
        if before is not None and not last.exceeds(before):
            break
        time.sleep(0.1)
        now = held(shop, pid)
        if now != last:
            last, since = now, time.monotonic()
        elif before is None and time.monotonic() - since > 1:
            break
    return last


def kilobytes(pid: int) -> int:
    """The process's memory, resident, at its highest since `forget_highest`."""
    return _status(pid, "VmHWM")


def forget_highest(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@dataclass
class Line:
    """The server's end of a connection: the bytes its kernel holds for a caller who does not read.

    `began_at`: the first of them; `queued_at`: the last of them so far; `cut_at`: the end. Seconds
    of the monotonic clock. From `queued_at` on, whoever writes there is blocked.
    """

    queued: int = 0
    began_at: float = float("inf")
    queued_at: float = float("inf")
    cut_at: float | None = None

    @property
    def blocked_seconds(self) -> float:
        """From the last byte the kernel took to the end; without an end, for ever."""
        return self.cut_at - self.queued_at if self.cut_at is not None else float("inf")


def most_at_once(lines: Iterable[Line]) -> int:
    """The most callers for whom something was held at the same time."""
    held = [(line.began_at, line.cut_at or float("inf")) for line in lines]
    return max(sum(began <= now < cut for began, cut in held) for now, _ in held)


def watch(server: int, lines: dict[int, Line], over: Event) -> None:
    """Note what becomes of every connection to this port, by its callers' ports, until it is over.

    One look at the kernel's table for all of them: it costs the same however many there are.
    """
    while not over.wait(LOOK_SECONDS):
        now, queued = time.monotonic(), _queued(server)
        for caller, size in queued.items():
            line = lines.setdefault(caller, Line())
            if size != line.queued:
                line.queued, line.queued_at = size, now
                line.began_at = min(line.began_at, now)
        for caller, line in lines.items():
            if line.cut_at is None and caller not in queued:
                line.cut_at = now


def _queued(server: int) -> dict[int, int]:
    """The unsent bytes of each open connection to this port, as the kernel sees it."""
    here, found = f"0100007F:{server:04X}", {}
    for _, local, remote, state, queues, *_ in _connections():
        if (local, state) == (here, ESTABLISHED):
            found[int(remote[-4:], 16)] = int(queues.partition(":")[0], 16)
    return found


def _descriptors(shop: House, pid: int) -> int:
    peers = {f"0100007F:{int(url.rpartition(':')[2]):04X}" for url in shop.peers}
    pooled = {f"socket:[{line[9]}]" for line in _connections() if line[2] in peers}
    number = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            number += str(descriptor.readlink()) not in pooled
    return number


def _connections() -> list[list[str]]:
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return [line.split() for line in lines[1:]]


def _status(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0])


def _numbers(of: Held) -> tuple[int, ...]:
    return of.descriptors, of.threads, of.system_threads, of.greenlets
