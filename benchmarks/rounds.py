"""Rounds: everybody once, one after the other; those that were disturbed are counted, not used."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.contest import WAITED, Contestant, Figures, measure
from benchmarks.order import Order


@dataclass(frozen=True)
class Round:
    """Each measurement by its name, and what else was read in between."""

    figures: Mapping[str, Figures]
    readings: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_starved(self) -> bool:
        """Whether somebody else had a core that was needed (WAITED)."""
        return max(each.waited for each in self.figures.values()) > WAITED


@dataclass(frozen=True)
class Rounds:
    """Those that count, and how many do not."""

    kept: Sequence[Round]
    dropped: int

    def values(self, name: str, of: Callable[[Figures], float]) -> list[float]:
        """A measurement's value in each round."""
        return [of(each.figures[name]) for each in self.kept]

    def ratios(self, over: str, under: str, of: Callable[[Figures], float]) -> list[float]:
        """Of two measurements of the same round."""
        return [a / b for a, b in zip(self.values(over, of), self.values(under, of), strict=True)]

    def readings(self, name: str) -> list[float]:
        """What was read in each round."""
        return [each.readings[name] for each in self.kept]


def per_delta(figures: Figures) -> float:
    """Microseconds of CPU."""
    return figures.per_delta


def per_call(figures: Figures) -> float:
    """Milliseconds of CPU."""
    return figures.per_call


def play_rounds(title: str, number: int, play: Callable[[], Round]) -> Rounds:
    """Play so many; each is told as it comes."""
    print(f"\n{title}", flush=True)
    kept, dropped = [], 0
    for each in range(number):
        played = play()
        verdict = "dropped: kept waiting for a core" if played.is_starved else "counts"
        print(f"  round {each + 1} of {number} {verdict}", flush=True)
        if played.is_starved:
            dropped += 1
        else:
            kept.append(played)
    return Rounds(kept, dropped)


def tell(name: str, contestant: Contestant, orders: Sequence[Order], ramp: float) -> Figures:
    """Measure, and say what was found."""
    figures = measure(contestant, orders, ramp)
    print(f"  {name:16} {figures}", flush=True)
    return figures
