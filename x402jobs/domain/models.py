"""Which Claude model a template's model name means today."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from x402jobs.domain.errors import TemplateUnavailable

DEFAULT_MODEL = "claude-sonnet-4-20250514"
"""Seed 1's default. It was retired on 15 June 2026 and lives on as a name for its successor."""

SUCCESSORS = {
    "claude-sonnet-4-20250514": "claude-sonnet-5-5",
    "claude-opus-4-20250514": "claude-opus-5-5",
}
"""The seeds' default names and the living models they stand for (spec/instant.md, Models)."""


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
        retired = self.retirements.get(current)
        if retired is not None and retired <= today:
            raise TemplateUnavailable(
                f"The model {current} has been retired. Please contact the template creator."
            )
        return current
