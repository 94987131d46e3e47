"""A tile's plan: what is to be done, step by step, and how far it has come."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from x402jobs.domain.coords import Coords
from x402jobs.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from x402jobs.domain.tile import TaskContext

UNTITLED = "Untitled"
MAX_NOTE_CHARACTERS = 200
STEPS_BEFORE, STEPS_IN_EXCERPT = 20, 50
_NO_BRACKET = re.compile(r'"(?:[^"\\]+|\\.)*+\\?"?|[^][{}"]+', re.DOTALL)
_SHAPE = re.compile(r"\{\[(?:\{\})*\]\}")
"""Looked at before json descends into it: where the recursion limit was raised, as libraries do,
too many brackets end the process."""
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]+")


class StepState(StrEnum):
    """How far a step is. It is data: no emoji in a title can change it."""

    PENDING = "pending"
    STARTED = "started"
    COMPLETE = "complete"
    BLOCKED = "blocked"


SIGNS = {
    StepState.PENDING: "📋",
    StepState.STARTED: "🟡",
    StepState.COMPLETE: "✅",
    StepState.BLOCKED: "🔴",
}
"""How a state is shown. They are never read back."""
_STATES = frozenset(state.value for state in StepState)


@dataclass(frozen=True)
class Step:
    """One thing to do: a title on one line, whose tile it is, and a one-line note at its end."""

    title: str
    coords: str
    state: StepState = StepState.PENDING
    note: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError where the plan's text could not be read back by eye."""
        if not self.title or self.title != one_line(self.title):
            raise ValueError("a step's title is not one line of text")
        if self.note != one_line(self.note):
            raise ValueError("a step's note is not one line of text")
        try:
            canonical = str(Coords.parse(self.coords))
        except InvalidRequest as fault:
            raise ValueError(f"a step's {fault.message}") from None
        if canonical != self.coords:
            raise ValueError("a step's coords are not written the canonical way")


@dataclass(frozen=True)
class Hexplan:
    """The steps in their order; there is at least one."""

    steps: Sequence[Step]

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a plan has no steps")

    @classmethod
    def of(cls, context: "TaskContext") -> "Hexplan":
        """The plan of a task that has none: a step for each leaf, or the task itself as the one.

        It depends on the tiles alone; what a run was told besides is never part of it.
        """
        tiles = context.leaves or context.subtasks or (context.task,)
        return cls(
            tuple(Step(one_line(each.title) or UNTITLED, str(each.coords)) for each in tiles)
        )

    @classmethod
    def parse(cls, text: str) -> "Hexplan":
        """Read what `as_json` has written. Raises ValueError with the reason on anything else."""
        if _SHAPE.fullmatch(_NO_BRACKET.sub("", text)) is None:
            raise ValueError("a plan is not an object with a list of objects")
        document = json.loads(text, object_pairs_hook=_once_each)
        if set(document) != {"steps"} or not isinstance(document["steps"], list):
            raise ValueError("a plan has its steps and nothing besides")
        return cls(tuple(_step(each) for each in document["steps"]))

    def as_json(self) -> str:
        """How it is stored; equal plans are equal texts."""
        return json.dumps(
            {"steps": [asdict(each) for each in self.steps]}, separators=(",", ":"), sort_keys=True
        )

    def first(self, state: StepState) -> tuple[int, Step] | None:
        """The first step in this state, and its place."""
        return next((each for each in enumerate(self.steps) if each[1].state is state), None)

    @property
    def next_index(self) -> int | None:
        """Where the first step is that has still to be done; None when there is none.

        One marked as started counts: only one run of a tile goes on at a time, so whoever started
        it is gone.
        """
        waiting = (StepState.PENDING, StepState.STARTED)
        return next((place for place, each in enumerate(self.steps) if each.state in waiting), None)

    @property
    def next_step(self) -> Step | None:
        """The first step that has still to be done."""
        return None if self.next_index is None else self.steps[self.next_index]

    def marked(self, index: int, state: StepState, note: str = "") -> "Hexplan":
        """The plan with one step, counted from 0, in another state and with this note alone.

        Raises IndexError where there is no such step.
        """
        if index not in range(len(self.steps)):
            raise IndexError("the plan has no such step")
        steps = list(self.steps)
        steps[index] = replace(steps[index], state=state, note=shortened(note))
        return Hexplan(tuple(steps))

    @property
    def text(self) -> str:
        """The plan as a person reads it: a line a step, and its note in a line below."""
        return self._lines(0, len(self.steps))

    @property
    def excerpt(self) -> str:
        """The plan as a prompt shows it: the next step among its neighbours, 50 steps at most.

        Hundreds of steps gather hundreds of notes, which would fill a prompt by themselves.
        """
        start = max(0, (self.next_index or 0) - STEPS_BEFORE)
        stop = min(len(self.steps), start + STEPS_IN_EXCERPT)
        lines = [self._lines(start, stop)]
        if start:
            lines.insert(0, f"(steps before these, not shown: {start})")
        if stop < len(self.steps):
            lines.append(f"(steps after these, not shown: {len(self.steps) - stop})")
        return "\n".join(lines)

    def _lines(self, start: int, stop: int) -> str:
        lines = []
        for number, step in enumerate(self.steps[start:stop], start + 1):
            lines.append(f"{SIGNS[step.state]} {number}. {step.title} → {step.coords}")
            if step.note:
                lines.append(f"   {step.note}")
        return "\n".join(lines)


def one_line(text: str) -> str:
    """The text with each run of white space, line ends and control characters as one space."""
    return _BREAKS.sub(" ", text).strip()


def shortened(text: str) -> str:
    """One line of at most 200 characters; what was cut ends in an ellipsis."""
    line = one_line(text)
    if len(line) <= MAX_NOTE_CHARACTERS:
        return line
    return line[: MAX_NOTE_CHARACTERS - 1].rstrip() + "…"


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a plan says something twice")
    return members


def _step(stored: object) -> Step:
    if not isinstance(stored, dict) or set(stored) != {"title", "coords", "state", "note"}:
        raise ValueError("a step is an object with title, coords, state and note")
    if not all(isinstance(value, str) for value in stored.values()):
        raise ValueError("a step has something that is not a text")
    if stored["state"] not in _STATES:
        raise ValueError("a step's state is none of ours")
    return Step(stored["title"], stored["coords"], StepState(stored["state"]), stored["note"])
