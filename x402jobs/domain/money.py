"""Money is an `int` of micro-USDC inside; it becomes text only at a door."""

import re

MICRO = 1_000_000
"""Micro-USDC in one USDC: the token has six decimals."""

_PLAIN = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?")


def parse_usdc(text: str) -> int:
    """Read a decimal string of USDC with at most six places, such as "0.01", as micro-USDC.

    Raises ValueError for anything else: signs, exponents, more places, not a number.
    """
    plain = _PLAIN.fullmatch(text)
    if plain is None:
        raise ValueError("not a plain decimal number with at most six places")
    whole, places = plain.groups(default="0")
    return int(whole) * MICRO + int(places.ljust(6, "0"))


def as_usdc(micro: int) -> str:
    """Write micro-USDC as the shortest decimal string with at least two places: 10000 -> "0.01"."""
    whole, places = divmod(micro, MICRO)
    return f"{whole}.{f'{places:06d}'.rstrip('0').ljust(2, '0')}"
