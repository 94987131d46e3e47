"""Money is an `int` of micro-USDC inside; it becomes text only at a door."""

from decimal import Decimal, InvalidOperation

MICRO = 1_000_000
"""Micro-USDC in one USDC: the token has six decimals."""


def parse_usdc(text: str) -> int:
    """Read a decimal string of USDC with at most six places, such as "0.01", as micro-USDC.

    Raises ValueError for anything else: signs, exponents, more places, not a number.
    """
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError("not a decimal number") from None
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or "e" in text.lower() or text.strip() != text:
        raise ValueError("not a plain decimal number")
    if exponent < -6:
        raise ValueError("USDC has at most six decimal places")
    if amount.is_signed():
        raise ValueError("must not be negative")
    return int(amount * MICRO)


def as_usdc(micro: int) -> str:
    """Write micro-USDC as the shortest decimal string with at least two places: 10000 -> "0.01"."""
    whole, places = divmod(micro, MICRO)
    return f"{whole}.{f'{places:06d}'.rstrip('0').ljust(2, '0')}"
