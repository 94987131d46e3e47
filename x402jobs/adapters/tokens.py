"""Bearer tokens of the embedded issuer; spec/identity.md has their claims."""

import secrets
import uuid
from pathlib import Path

import jwt

from x402jobs.adapters.private_file import private_file
from x402jobs.domain.errors import Unauthenticated
from x402jobs.domain.secret import Secret
from x402jobs.ports import Clock

ISSUER = "urn:x402jobs:local"
AUDIENCE = "authenticated"
ALGORITHM = "HS256"
MAX_LIFE_SECONDS = 24 * 3600


class LocalTokens:
    """Makes and reads tokens with a secret kept in the data directory (ports.TokenVerifier)."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def issue(self, user_id: str, life_seconds: int = MAX_LIFE_SECONDS) -> str:
        """A token that speaks for the account for this long, at most a day."""
        now = int(self._clock.now())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "role": AUDIENCE,
            "sub": user_id,
            "iat": now,
            "exp": now + min(life_seconds, MAX_LIFE_SECONDS),
        }
        return jwt.encode(claims, self._secret(), ALGORITHM)

    def user_id(self, token: str) -> str:
        try:
            claims = jwt.decode(
                token,
                self._secret(),
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
            if claims["exp"] - claims["iat"] > MAX_LIFE_SECONDS:
                raise Unauthenticated()
            if claims.get("role") != AUDIENCE or claims.get("is_anonymous"):
                raise Unauthenticated()
            return str(uuid.UUID(claims["sub"]))
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError):
            raise Unauthenticated() from None

    def _secret(self) -> str:
        return private_file(self._path, secrets.token_hex(32)).strip()


class SupabaseTokens:
    """Reads a Supabase project's access tokens (ports.TokenVerifier)."""

    def __init__(self, url: str, secret: Secret | None, clock: Clock) -> None:
        self._url = url
        self._secret = secret
        self._clock = clock

    def user_id(self, token: str) -> str:
        raise Unauthenticated()
