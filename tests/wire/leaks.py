"""Finding a secret in bytes, in whatever form it got there."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from urllib.parse import quote, quote_plus

LEAST_BYTES = 8
"""A shorter secret would be found by chance."""


def leaked(secrets: Mapping[str, str], where: bytes) -> list[str]:
    """What was found: one line for each secret and form, its place and no content."""
    folded = where.lower()
    return [
        f"{name} {form} at byte {place}"
        for name, secret in secrets.items()
        for form, needle, is_folded in _forms(secret)
        if (place := (folded if is_folded else where).find(needle)) >= 0
    ]


@lru_cache(4096)
def _forms(secret: str) -> tuple[tuple[str, bytes, bool], ...]:
    """Each form's name, what to look for, and whether in small letters."""
    return tuple(_forms_of(secret))


def _forms_of(secret: str) -> Iterator[tuple[str, bytes, bool]]:
    raw = secret.encode()
    assert len(raw) >= LEAST_BYTES
    yield "raw", raw.lower(), True
    yield "in hex", raw.hex().encode(), True
    yield "URL-escaped", quote(secret, safe="").lower().encode(), True
    yield "form-escaped", quote_plus(secret).lower().encode(), True
    yield "JSON-escaped", json.dumps(secret)[1:-1].lower().encode(), True
    yield "twice JSON-escaped", json.dumps(json.dumps(secret))[3:-3].lower().encode(), True
    yield "as a Python literal", ascii(secret)[1:-1].lower().encode(), True
    yield "in UTF-16", secret.encode("utf-16-le"), False
    for offset in range(3):  # base64 of a longer text depends on where the secret begins in it
        for form, encode in (
            ("in base64", base64.b64encode),
            ("in base64url", base64.urlsafe_b64encode),
        ):
            yield form, _middle(encode(b"\0" * offset + raw), offset, len(raw)), False
    if re.fullmatch(r"(0x)?[0-9a-f]+", secret):
        digits = secret.removeprefix("0x")
        yield "as hex digits", digits.encode(), True
        if len(digits) % 2 == 0:
            yield "as bytes", bytes.fromhex(digits), False


def _middle(encoded: bytes, offset: int, length: int) -> bytes:
    """The characters of a base64 text that the secret alone decides."""
    first = (offset * 8 + 5) // 6
    last = (offset + length) * 8 // 6
    return encoded[first:last]
