"""JSON without its ambiguities: what is signed for is exactly what is executed."""

import json
import re
from typing import Any, NoReturn

MAX_DEPTH = 8

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def loads(raw: bytes) -> Any:
    """Read UTF-8 JSON.

    Refuses what two readers could take for two things: duplicate keys, NaN and Infinity, numbers
    too large for a float, NUL and lone surrogates in strings, a BOM, other encodings, nesting
    deeper than eight.

    Raises ValueError with the reason.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    _refuse_depth(text)
    try:
        document = json.loads(
            text,
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_refuse_overflow,
            parse_int=_refuse_long_integers,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON at character {error.pos}") from None
    _refuse_odd_text(document)
    return document


def _refuse_depth(text: str) -> None:
    """Count brackets outside strings, before the parser recurses into them."""
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in pairs:
        if name in document:
            raise ValueError(f"duplicate key {name[:64]!a}")
        document[name] = value
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse_overflow(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value


def _refuse_long_integers(text: str) -> int:
    if len(text) > 100:
        raise ValueError("a number is too large")
    return int(text)


def _refuse_odd_text(value: Any) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError("a string contains NUL")
        if _SURROGATE.search(value):
            raise ValueError("a string contains a lone surrogate")
    elif isinstance(value, dict):
        for name, item in value.items():
            _refuse_odd_text(name)
            _refuse_odd_text(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_odd_text(item)
