"""Which Claude model a template's model name means today."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from x402jobs.domain.errors import InvalidRequest, TemplateUnavailable

DEFAULT_MODEL = "claude-sonnet-4-20250514"
"""Seed 1's default. It was retired on 15 June 2026 and lives on as a name for its successor."""

SUCCESSORS = {
    "claude-sonnet-4-20250514": "claude-sonnet-5-5",
    "claude-opus-4-20250514": "claude-opus-5-5",
}
"""The seeds' default names and the living models they stand for (spec/instant.md, Models)."""

NAME = re.compile(r"[A-Za-z0-9._:-]{1,100}")

NOTICE = timedelta(days=90)
"""How long before a model's end its creators are warned."""


@dataclass(frozen=True)
class Models:
    """The retirement dates we know of (from the anthropic package) and the successors we chose."""

    retirements: Mapping[str, date]
    successors: Mapping[str, str]

    def resolve(self, name: str, today: date) -> str:
        """The model to ask Claude for.

        A name nobody has told us about goes to Claude as it is. Raises TemplateUnavailable for a
        model known to be retired that has no successor.
        """
        current = self.successors.get(name, name)
        if self._ends_by(current, today):
            raise TemplateUnavailable(
                f"The model {current} has been retired. Please contact the template creator."
            )
        return current

    def accept(self, name: str, today: date) -> list[str]:
        """What the creator should know about a name that a template is saved with.

        Raises InvalidRequest for a name Claude cannot have, and for one whose calls would all be
        refused by `resolve`.
        """
        if NAME.fullmatch(name) is None:
            raise InvalidRequest(
                "model must be 1 to 100 letters, digits, dots, underscores, colons or hyphens.",
                field="model",
            )
        current = self.successors.get(name, name)
        if self._ends_by(current, today):
            living = " or ".join(self._with_a_future(today)) or "a model that is still offered"
            raise InvalidRequest(
                f"model: {current} was retired on {_day(self.retirements[current])}. Use {living}.",
                field="model",
            )
        warnings = []
        if current != name and self._ends_by(name, today):
            retired = _day(self.retirements[name])
            warnings.append(f"{name} was retired on {retired}; {current} answers in its place.")
        elif current != name:
            warnings.append(f"{current} answers in the place of {name}.")
        if self._ends_by(current, today + NOTICE):
            ends = _day(self.retirements[current])
            warnings.append(
                f"{current} will be retired on {ends}; calls are refused from that day."
            )
        return warnings

    def _with_a_future(self, today: date) -> list[str]:
        chosen = dict.fromkeys(self.successors.values())
        return [model for model in chosen if not self._ends_by(model, today + NOTICE)]

    def _ends_by(self, model: str, day: date) -> bool:
        ends = self.retirements.get(model)
        return ends is not None and ends <= day


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"
