"""What is asked of every bearer token, whoever has signed it."""

import json
import re
import uuid
from typing import Any

import jwt

from x402jobs.domain.errors import Unauthenticated

AUDIENCE = "authenticated"
"""Also the role of whoever has signed in, as Supabase names both."""
MAX_LIFE_SECONDS = 24 * 3600
LARGEST = 8192
"""Longer than any header the server takes."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_KEYS_OF_ITS_OWN = frozenset({"jku", "jwk", "x5u", "x5c"})
_FAULTS = (
    jwt.PyJWTError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


class _Reader(jwt.PyJWT):
    """Refuses claims that are there twice: which of them counts, another reader may see otherwise.

    PyJWT makes room for this at this very place.
    """

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        json.loads(decoded["payload"], object_pairs_hook=_once)
        return super()._decode_payload(decoded)


_reader = _Reader()


def header(token: str) -> dict[str, Any]:
    """What the token says of its signature; nothing of it has been checked.

    Raises Unauthenticated for what is no token, and for one that brings a key of its own or
    demands what we do not know (RFC 8725, 3.10; RFC 7515, 4.1.11).
    """
    if len(token) > LARGEST or _TOKEN.fullmatch(token) is None:
        raise Unauthenticated()
    try:
        said = jwt.get_unverified_header(token)
    except _FAULTS:
        raise Unauthenticated() from None
    if "crit" in said or not _KEYS_OF_ITS_OWN.isdisjoint(said):
        raise Unauthenticated()
    return said


def account(
    token: str, key: str | jwt.PyJWK, algorithms: list[str], issuer: str, leeway: float = 0
) -> str:
    """Whom a token speaks for that this key has signed. `leeway` is in seconds.

    Raises Unauthenticated for every other one, always in the same words.
    """
    try:
        claims = _reader.decode(
            token,
            key,
            algorithms=algorithms,
            audience=AUDIENCE,
            issuer=issuer,
            leeway=leeway,
            options={"require": ["exp", "iat", "sub", "aud", "iss"]},
        )
        if claims["exp"] - claims["iat"] > MAX_LIFE_SECONDS:
            raise Unauthenticated()
        if claims.get("role") != AUDIENCE or claims.get("is_anonymous"):
            raise Unauthenticated()
        user_id = str(uuid.UUID(claims["sub"]))
        if user_id != claims["sub"].lower():  # Python reads more than one way to write it
            raise Unauthenticated()
        return user_id
    except _FAULTS:
        raise Unauthenticated() from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError
    return document
