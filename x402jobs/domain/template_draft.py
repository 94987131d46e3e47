"""What a creator says about a template, before it is on the shelf."""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from x402jobs.domain.errors import InvalidRequest
from x402jobs.domain.models import DEFAULT_MODEL
from x402jobs.domain.money import MICRO
from x402jobs.domain.prompt_template import MAX_PROMPT_BYTES, NAME, TAG, Parameter

SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
MAX_SLUG_CHARACTERS = 60
MAX_PARAMETERS_BYTES = 192 * 1024
"""A list of templates, and every 402, repeats the definitions."""
ALMOST_A_TAG = re.compile(rf"\{{({NAME})\}}")
DEFAULT_MAX_TOKENS = 4096


@dataclass(frozen=True)
class TemplateDraft:
    """A template in its creator's words; spec/instant.md, Creator's side.

    `price` is in micro-USDC. A `slug` of None is made from the name, a `network` of None is the
    one the shop prefers. `parameters` are definitions as JSON has them.
    """

    name: str
    price: int
    system_prompt: str = field(repr=False)
    parameters: Sequence[Mapping[str, Any]] = ()
    slug: str | None = None
    description: str = ""
    network: str | None = None
    model: str = DEFAULT_MODEL
    max_tokens: int = DEFAULT_MAX_TOKENS
    allows_user_message: bool = False
    is_active: bool = True

    def check(self) -> None:
        """Raises InvalidRequest where prompt and parameters do not make a template together."""
        if not self.system_prompt:
            raise InvalidRequest(
                "The stored prompt can no longer be read. Send it again.", field="systemPrompt"
            )
        definitions = json.dumps(list(self.parameters), ensure_ascii=False)
        if len(definitions.encode(errors="replace")) > MAX_PARAMETERS_BYTES:
            raise InvalidRequest(
                f"parameters: their definitions together are limited to {MAX_PARAMETERS_BYTES} "
                "bytes of JSON; they are told to everybody who asks.",
                field="parameters",
            )
        defined: list[str] = []
        for place, definition in enumerate(self.parameters):
            try:
                parameter = Parameter.parse(definition)
            except ValueError as error:
                raise InvalidRequest(f"{error}.", field=f"parameters.{place}") from None
            except (KeyError, TypeError):  # one of the origin's: it looked at nothing it stored
                raise InvalidRequest(
                    "This stored definition cannot be read. Send the parameters again.",
                    field=f"parameters.{place}",
                ) from None
            if parameter.name in defined:
                raise InvalidRequest(
                    f"{parameter.name} is defined twice.", field=f"parameters.{place}.name"
                )
            defined.append(parameter.name)
            _check_choices(parameter, f"parameters.{place}")
        tags = sorted(set(TAG.findall(self.system_prompt)))
        if tags != sorted(defined):
            raise InvalidRequest(
                "The prompt's tags and the parameters must be the same. "
                f"Tags: {_listed(tags)}; parameters: {_listed(sorted(defined))}. "
                "A tag is written {name}{/name}.",
                field="parameters",
            )

    def warnings(self) -> list[str]:
        """What its creator should know, in sentences."""
        warnings = []
        try:
            self.check()
        except InvalidRequest as fault:
            warnings.append(f"Nobody can call the template. {fault.message}")
        if len(self.system_prompt.encode()) > MAX_PROMPT_BYTES:
            warnings.append(
                f"Nobody can call the template. Its prompt is longer than {MAX_PROMPT_BYTES} bytes "
                "before anything is filled in."
            )
        if self.price > MICRO:
            warnings.append("Most clients refuse to pay more than 1.00 USDC a call by themselves.")
        for name in sorted(set(ALMOST_A_TAG.findall(TAG.sub("", self.system_prompt)))):
            warnings.append(
                f"{{{name}}} is not a tag and is sent as it stands; a tag is {{{name}}}{{/{name}}}."
            )
        if not self.is_active:
            warnings.append("The template is paused: nobody can call it.")
        return warnings


def _check_choices(parameter: Parameter, field: str) -> None:
    """What its own parameter refuses would be every caller's 400."""
    try:
        for place, choice in enumerate(parameter.enum):
            told = f"{field}.enum.{place}"
            parameter.value(choice)
        if parameter.default:
            told = f"{field}.default"
            parameter.value(parameter.default)
    except InvalidRequest as error:
        raise InvalidRequest(f"{told} does not fit: {error.message}", field=told) from None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def slug_of(name: str, attempt: int = 1) -> str:
    """A slug made from a name; from the second attempt on with a number behind it."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "template"
    number = f"-{attempt}" if attempt > 1 else ""
    return slug[: MAX_SLUG_CHARACTERS - len(number)].rstrip("-") + number
