"""A creator's prompt with blanks, and how a caller's values fill them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from x402jobs.domain.errors import ContextTooLong, InvalidRequest

NAME = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
TAG = re.compile(rf"\{{({NAME})\}}\{{/\1\}}", re.ASCII)
"""`{name}{/name}`. The bounded name makes the search linear, near-misses included."""

CONTROLS = frozenset({"stream", "network", "sse", "after"})
"""Words of the query that steer a reply."""
RESERVED = CONTROLS | {"user_message"}
"""What no parameter may be called."""
MAX_VALUE_CHARACTERS = 32_768
MAX_PROMPT_BYTES = 200_000
NEUTRAL_TURN = "Please respond based on the system prompt."
"""The user turn when the caller sends none (seed 1)."""


@dataclass(frozen=True)
class Parameter:
    """A blank's definition; spec/instant.md, Parameters and substitution."""

    name: str
    description: str = ""
    required: bool = True
    default: str = ""
    max_length: int = MAX_VALUE_CHARACTERS
    enum: tuple[str, ...] = ()

    @classmethod
    def parse(cls, definition: Mapping[str, Any]) -> "Parameter":
        """Read a stored definition. Raises ValueError with the reason."""
        enum, limit = definition.get("enum") or [], definition.get("maxLength")
        parameter = cls(
            name=definition["name"],
            description=definition.get("description") or "",
            required=definition.get("required", True) is not False,
            default=definition.get("default") or "",
            max_length=MAX_VALUE_CHARACTERS if limit is None else limit,
            enum=tuple(enum),
        )
        if re.fullmatch(NAME, parameter.name) is None or parameter.name in RESERVED:
            raise ValueError(f"{parameter.name!a} cannot be a parameter name")
        texts = (parameter.description, parameter.default, *parameter.enum)
        if isinstance(enum, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{parameter.name} is defined with something that is not a text")
        if parameter.max_length not in range(1, MAX_VALUE_CHARACTERS + 1):
            raise ValueError(f"the maxLength of {parameter.name} is not 1..{MAX_VALUE_CHARACTERS}")
        return parameter

    def value(self, given: str | None) -> str:
        """The text that fills the blank. Raises InvalidRequest naming the parameter."""
        text = given or self.default
        if not text:
            if self.required:
                raise InvalidRequest(f"Missing required parameter: {self.name}", field=self.name)
            return ""
        if len(text) > self.max_length:
            raise InvalidRequest(
                f"{self.name} must be at most {self.max_length} characters.", field=self.name
            )
        if self.enum and text not in self.enum:
            raise InvalidRequest(
                f"{self.name} must be one of: {', '.join(self.enum)}.", field=self.name
            )
        return text


@dataclass(frozen=True)
class Prompt:
    """What Claude is asked. The texts are the creator's product: they have no repr.

    Without `system` there is the user's turn alone, without `temperature` Claude's own.
    """

    model: str
    max_tokens: int
    system: str = field(repr=False)
    user: str = field(repr=False)
    temperature: float | None = None

    @property
    def estimated_tokens(self) -> int:
        """A rough guess made here: four bytes of text to a token, rounded up."""
        return -(-len((self.system + self.user).encode()) // 4)


@dataclass(frozen=True)
class PromptTemplate:
    """A template as its creator wrote it.

    `price` is in micro-USDC; 0 is free. `network` is the one the creator prefers to be paid on.
    """

    id: str
    version: int
    owner_id: str
    path: str
    name: str
    description: str
    price: int
    system_prompt: str = field(repr=False)
    parameters: Sequence[Parameter]
    model: str
    max_tokens: int
    allows_user_message: bool
    network: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError, with both lists, when the tags and the definitions disagree."""
        tags = sorted(set(TAG.findall(self.system_prompt)))
        defined = sorted(parameter.name for parameter in self.parameters)
        if tags != defined:
            raise ValueError(f"tags {tags} and parameters {defined} disagree")

    def fill(self, values: Mapping[str, str | None]) -> Prompt:
        """Put the caller's values into the blanks, in one pass over the template alone.

        A value is never read again as a tag, a pattern or an escape. Raises InvalidRequest naming
        the field, or ContextTooLong before a text over 200 KB is built.
        """
        user_message = values.get("user_message")
        if user_message is not None and not self.allows_user_message:
            raise InvalidRequest(
                "This template does not accept user messages", field="user_message"
            )
        known = {parameter.name for parameter in self.parameters} | {"user_message"}
        for name in values:
            if name not in known:
                raise InvalidRequest(f"Unknown parameter: {name[:64]}", field=name[:64])
        filling = {each.name: each.value(values.get(each.name)) for each in self.parameters}
        pieces = TAG.split(self.system_prompt)  # literal, name, literal, name, …, literal
        pieces[1::2] = [filling[name] for name in pieces[1::2]]
        if sum(len(piece.encode()) for piece in (*pieces, user_message or "")) > MAX_PROMPT_BYTES:
            raise ContextTooLong()
        return Prompt(
            self.model, self.max_tokens, system="".join(pieces), user=user_message or NEUTRAL_TURN
        )

    def unfilled(self) -> Prompt:
        """The prompt with its blanks as they are, for a probe that will only be quoted a price."""
        return Prompt(self.model, self.max_tokens, system=self.system_prompt, user=NEUTRAL_TURN)
