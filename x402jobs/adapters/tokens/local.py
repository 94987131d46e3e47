"""The embedded issuer, for whoever has no Supabase project."""

import secrets
from pathlib import Path

import jwt

from x402jobs.adapters.private_file import private_file
from x402jobs.adapters.tokens import claims
from x402jobs.adapters.tokens.claims import AUDIENCE, MAX_LIFE_SECONDS
from x402jobs.ports import Clock

ISSUER = "urn:x402jobs:local"
ALGORITHM = "HS256"


class LocalTokens:
    """Makes and reads tokens with a secret kept in the data directory (ports.TokenVerifier)."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def issue(self, user_id: str, life_seconds: int = MAX_LIFE_SECONDS) -> str:
        """A token that speaks for the account for this long, at most a day."""
        now = int(self._clock.now())
        whole = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "role": AUDIENCE,
            "sub": user_id,
            "iat": now,
            "exp": now + min(life_seconds, MAX_LIFE_SECONDS),
        }
        return jwt.encode(whole, self._secret(), ALGORITHM)

    def user_id(self, token: str) -> str:
        claims.header(token)
        return claims.account(token, self._secret(), [ALGORITHM], ISSUER)

    def _secret(self) -> str:
        return private_file(self._path, secrets.token_hex(32)).strip()
