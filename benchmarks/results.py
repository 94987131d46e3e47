"""What was found: parts with a row for each contestant or size, and the goals they are held to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.contest import spread

LEAST_ROUNDS = 5
"""Fewer that count, and a goal is neither met nor missed."""


@dataclass(frozen=True)
class Row:
    """One contestant, or one size: a value from each round that counts."""

    label: str
    values: Sequence[float]


@dataclass(frozen=True)
class Goal:
    """A line of the table of goals. Nearer to 0 is better, or farther where it is `at_least`."""

    figure: str
    must: float
    aim: float
    digits: int = 2
    at_least: bool = False

    def verdict(self, values: Sequence[float], least: int = LEAST_ROUNDS) -> str:
        """By the median."""
        if len(values) < least:
            return "no result"
        found = median(values)
        for name, limit in (("aim", self.aim), ("must", self.must)):
            if found >= limit if self.at_least else found <= limit:
                return f"{name} met"
        return "MISSED"


PER_DELTA_NGINX = Goal("CPU per delta / nginx `proxy_pass`", 8, 5, 1)
PER_DELTA_NAIVE = Goal("CPU per delta / naive `.stream()` relay", 0.65, 0.40)
PER_DELTA_LITELLM = Goal("CPU per delta / LiteLLM `/v1/messages`, 20 streams", 0.7, 0.45)
ADDED_DELAY = Goal("p50 delay of a delta above nginx's, ms", 1, 0.5)
STREAMS = Goal("streams x 50/s on one worker, p99 delay < 100 ms", 250, 500, 0, at_least=True)
MEMORY = Goal("memory per open stream, KiB", 75, 60, 0)
CROWDED_CALL = Goal("CPU of a 1-delta call, most streams open / none", 1.5, 1.2)
OWN_TIME = Goal("our own time in a paid call, ms", 5, 2, 1)
LEDGER_GROWTH = Goal("CPU of a 1-delta call, most rows in the ledger / fewest", 1.2, 1.05)
GOALS = (
    PER_DELTA_NGINX,
    PER_DELTA_NAIVE,
    PER_DELTA_LITELLM,
    ADDED_DELAY,
    STREAMS,
    MEMORY,
    CROWDED_CALL,
    OWN_TIME,
    LEDGER_GROWTH,
)


@dataclass(frozen=True)
class Part:
    """One thing that was measured, in rounds of its own."""

    title: str
    unit: str
    digits: int
    rows: Sequence[Row]
    dropped: int
    reached: Mapping[Goal, Sequence[float]] = field(default_factory=dict)
    note: str = ""


def markdown(parts: Sequence[Part], least: int = LEAST_ROUNDS) -> str:
    """The goals, then each part."""
    reached = {goal: values for part in parts for goal, values in part.reached.items()}
    lines = ["| goal | must | aim | median [range] | rounds | |", "|---|---|---|---|---|---|"]
    for goal in GOALS:
        values, sign = reached.get(goal, ()), ">=" if goal.at_least else "<="
        found = "every round was dropped" if goal in reached else "not measured"
        if values:
            found = spread(values, goal.digits)
        verdict = goal.verdict(values, least)
        lines.append(
            f"| {goal.figure} | {sign} {goal.must:g} | {sign} {goal.aim:g} | {found} "
            f"| {len(values)} | {verdict} |"
        )
    for part in parts:
        lines += ["", f"### {part.title}", "", f"| | {part.unit}, median [range] |", "|---|---|"]
        lines += [
            f"| {row.label} | {spread(row.values, part.digits) if row.values else 'no result'} |"
            for row in part.rows
        ]
        counted = max((len(row.values) for row in part.rows), default=0)
        counts = f"Rounds that count: {counted}; dropped: {part.dropped}. {part.note}"
        lines += ["", counts.rstrip()]
    return "\n".join(lines) + "\n"
