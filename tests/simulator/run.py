"""Histories by the thousand, and what they have shown."""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from time import process_time

from tests.simulator.history import History
from tests.simulator.mutants import MUTANTS
from tests.simulator.worker import staged

CHUNK = 1000
SWEEP = 500
"""Histories are full of circles; they are swept up now and then, not while one is told."""


@dataclass(frozen=True)
class Break:
    """A check that failed, and where. `turns` tells the shortest history from the others."""

    name: str
    how: str
    number: int
    turns: int


@dataclass
class Shown:
    """What so many histories have shown. `seconds` are of one processor."""

    histories: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    breaks: list[Break] = field(default_factory=list)

    def add(self, other: "Shown") -> None:
        """And these."""
        self.histories += other.histories
        self.seconds += other.seconds
        self.counts.update(other.counts)
        self.pairs |= other.pairs
        self.breaks += other.breaks


def tell(seed: str, numbers: range, mutant: str | None = None, until_broken: bool = False) -> Shown:
    """These histories of the seed, here and now."""
    shown, began = Shown(), process_time()
    with staged(), MUTANTS[mutant]() if mutant else nullcontext():
        gc.disable()
        gc.freeze()  # what was imported is no rubbish
        try:
            for number in numbers:
                history = History(f"{seed}:{number}", shown.counts, shown.pairs)
                history.tell()
                shown.histories += 1
                turns = history.schedule.turns
                shown.breaks += [Break(*each, number, turns) for each in history.checks.broken]
                if until_broken and shown.breaks:
                    break
                if number % SWEEP == 0:
                    gc.collect()
        finally:
            gc.unfreeze()
            gc.enable()
    shown.seconds = process_time() - began
    return shown


def tell_all(seed: str, histories: int, processes: int) -> Iterator[Shown]:
    """The first so many histories of the seed, over so many processes, as they are done."""
    chunks = [range(at, min(at + CHUNK, histories)) for at in range(0, histories, CHUNK)]
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(partial(tell, seed), chunks)


def replay(seed: str, number: int, mutant: str | None = None) -> tuple[list[str], list[str]]:
    """One history again: everything that happened, and the checks that failed."""
    with staged(), MUTANTS[mutant]() if mutant else nullcontext():
        history = History(f"{seed}:{number}", Counter(), set())
        history.schedule.trace = []
        history.tell()
    return history.schedule.trace, [f"{name}: {how}" for name, how in history.checks.broken]
