"""Finding a secret in bytes, in whatever form it got there."""

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

LEAST_BYTES = 8
"""A shorter secret would be found by chance."""


def leaked(secrets: dict[str, str], where: bytes) -> list[str]:
    """What was found: one line for each secret and form, its place and no content."""
    folded = where.lower()
    return [
        f"{name} {form} at byte {place}"
        for name, secret in secrets.items()
        for form, needle, haystack in _forms(secret, where, folded)
        if (place := haystack.find(needle)) >= 0
    ]


def _forms(secret: str, where: bytes, folded: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    raw = secret.encode()
    assert len(raw) >= LEAST_BYTES
    yield "raw", raw.lower(), folded
    yield "in hex", raw.hex().encode(), folded
    yield "URL-escaped", quote(secret, safe="").lower().encode(), folded
    yield "form-escaped", quote_plus(secret).lower().encode(), folded
    yield "JSON-escaped", json.dumps(secret)[1:-1].lower().encode(), folded
    yield "twice JSON-escaped", json.dumps(json.dumps(secret))[3:-3].lower().encode(), folded
    yield "as a Python literal", ascii(secret)[1:-1].lower().encode(), folded
    yield "in UTF-16", secret.encode("utf-16-le"), where
    for offset in range(3):  # base64 of a longer text depends on where the secret begins in it
        for form, encode in (
            ("in base64", base64.b64encode),
            ("in base64url", base64.urlsafe_b64encode),
        ):
            yield form, _middle(encode(b"\0" * offset + raw), offset, len(raw)), where
    if re.fullmatch(r"(0x)?[0-9a-f]+", secret):
        digits = secret.removeprefix("0x")
        yield "as hex digits", digits.encode(), folded
        yield "as bytes", bytes.fromhex(digits), where


def _middle(encoded: bytes, offset: int, length: int) -> bytes:
    """The characters of a base64 text that the secret alone decides."""
    first = (offset * 8 + 5) // 6
    last = (offset + length) * 8 // 6
    return encoded[first:last]
