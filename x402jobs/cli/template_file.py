"""A template as its creator keeps it: a file of TOML, YAML or JSON, or flags."""

import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from x402jobs.domain import strict_json
from x402jobs.domain.prompt_template import TAG

if TYPE_CHECKING:
    import yaml

STDIN = "-"

WRITTEN_BY_THE_SHOP = ("id", "url", "createdAt", "updatedAt", "warnings")
"""What `template show` prints beside the template; printed and edited, it may be sent back."""


def read_template(name: str) -> dict[str, Any]:
    """The fields in the file of this name; `-` is TOML on standard input.

    `systemPromptFile` is read beside the file, and becomes `systemPrompt`. Raises UsageError with
    the place of the fault and the mend.
    """
    where = "standard input" if name == STDIN else name
    kind = ".toml" if name == STDIN else Path(name).suffix.lower()
    if kind not in _READERS:
        raise click.UsageError(f"{name} must end in one of: {', '.join(_READERS)}.")
    raw = sys.stdin.buffer.read() if name == STDIN else _bytes(Path(name))
    try:
        held = _READERS[kind](raw)
        if not isinstance(held, dict):
            raise ValueError("it holds no template: fields and their values, please")
        _refuse_odd_values(held, "")
        _refuse_numbers_as_money(held)
        document = {k: v for k, v in held.items() if k not in WRITTEN_BY_THE_SHOP}
        if "systemPromptFile" in document:
            document = _with_prompt_of_file(document, Path(name).parent)
    except ValueError as error:
        raise click.UsageError(f"{where}: {error}.") from None
    except RecursionError:
        raise click.UsageError(f"{where}: nested too deeply.") from None
    return document


def parameters_of(prompt: str) -> list[dict[str, str]]:
    """A required parameter for each tag of the prompt, in the order of the text."""
    return [{"name": name} for name in dict.fromkeys(TAG.findall(prompt))]


def parameter(
    _: click.Context, __: click.Parameter, texts: tuple[str, ...]
) -> list[dict[str, Any]]:
    """`name` is required; `name=default`, or `name=`, is what callers may leave out."""
    definitions: list[dict[str, Any]] = []
    for text in texts:
        name, equals, default = text.partition("=")
        definitions.append(
            {"name": name, "required": False, "default": default} if equals else {"name": name}
        )
    return definitions


def _json(raw: bytes) -> Any:
    return strict_json.loads(raw)


def _toml(raw: bytes) -> Any:
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        # Of its words only the place: they may quote the file.
        place = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(error))
        raise ValueError(f"not TOML, {place[1]}" if place else "not TOML") from None


def _yaml(raw: bytes) -> Any:
    import yaml

    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_two_meanings(tree, set())
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ValueError(f"not YAML, line {mark.line + 1}" if mark else "not YAML") from None
    except yaml.YAMLError:
        raise ValueError("not YAML") from None


def _refuse_two_meanings(node: "yaml.Node | None", seen: set[int]) -> None:
    """No name twice, which YAML's reader takes quietly, and no aliases, which may be endless."""
    import yaml

    if node is None:
        return
    if id(node) in seen:
        raise ValueError(f"an alias (*name), of {_line(node)}: write the value out")
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _refuse_two_meanings(each, seen)
    elif isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode) or name.value in names:
                raise ValueError(f"a name that is there twice, or is no text, {_line(name)}")
            names.add(name.value)
            _refuse_two_meanings(value, seen)


def _line(node: "yaml.Node") -> str:
    return f"line {node.start_mark.line + 1}"


_READERS = {".toml": _toml, ".yaml": _yaml, ".yml": _yaml, ".json": _json}


def _refuse_odd_values(value: Any, path: str) -> None:
    """Dates, infinities and the like have no JSON. Texts, numbers, lists and the rest do."""
    if isinstance(value, dict):
        for name, each in value.items():
            if not isinstance(name, str):
                raise ValueError(f"{path or 'a field'} has a name that is no text; quote it")
            _refuse_odd_values(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            _refuse_odd_values(each, f"{path}.{place}")
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"{path} is not a number that JSON has")
    elif value is not None and not isinstance(value, str | int):
        raise ValueError(f"{path} is read as a date, or as bytes; quote it to make it a text")


def _refuse_numbers_as_money(document: Mapping[str, Any]) -> None:
    price = document.get("priceUsdc")
    if isinstance(price, int | float) and not isinstance(price, bool):
        raise ValueError('priceUsdc must be quoted, as in "0.01": a float is not money')


def _with_prompt_of_file(document: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    rest = dict(document)
    named = rest.pop("systemPromptFile")
    if "systemPrompt" in rest:
        raise ValueError("systemPrompt and systemPromptFile are two prompts; keep one")
    if not isinstance(named, str) or not named:
        raise ValueError("systemPromptFile must be the name of a file")
    return rest | {"systemPrompt": read_text(directory / named)}


def read_text(path: Path) -> str:
    """The text in a file. Raises UsageError."""
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"{path}: not UTF-8.") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}.") from None
    except ValueError:  # a NUL in the name
        raise click.UsageError("the name of the file cannot be one.") from None
