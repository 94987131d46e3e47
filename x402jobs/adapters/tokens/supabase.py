"""A Supabase project's access tokens."""

import re
from typing import Any

import jwt

from x402jobs.adapters.tokens import claims
from x402jobs.adapters.tokens.published_keys import REST_SECONDS, PublishedKeys
from x402jobs.domain.errors import StoreUnavailable, Unauthenticated
from x402jobs.domain.secret import Secret
from x402jobs.ports import Clock

LEEWAY_SECONDS = 10
"""How far the project's clock and ours may be apart."""
PUBLISHED, SHARED = ["ES256", "RS256"], ["HS256"]

_KEY_ID = re.compile(r"[\x21-\x7e]{1,128}")


class SupabaseTokens:
    """Reads tokens by the keys that the project publishes (ports.TokenVerifier).

    Or by its legacy secret where the operator has set it, and then by that alone: a header never
    decides which kind of key it is.
    """

    def __init__(self, url: str, secret: Secret | None, clock: Clock) -> None:
        self._issuer = f"{url}/auth/v1"
        self._secret = secret
        self._keys = PublishedKeys(f"{self._issuer}/.well-known/jwks.json", clock)

    def user_id(self, token: str) -> str:
        """Also raises StoreUnavailable, when it cannot be known whether the key is the project's.

        Nothing is asked about a token that could not be good in any case.
        """
        header = claims.header(token)
        if self._secret is not None:
            shared = self._secret.reveal()
            return claims.account(token, shared, SHARED, self._issuer, LEEWAY_SECONDS)
        return claims.account(token, self._key(header), PUBLISHED, self._issuer, LEEWAY_SECONDS)

    def _key(self, header: dict[str, Any]) -> jwt.PyJWK:
        key_id = header.get("kid", "")  # PyJWT has seen that it is a string
        if header.get("alg") not in PUBLISHED or _KEY_ID.fullmatch(key_id) is None:
            raise Unauthenticated()
        try:
            return self._keys.get_signing_key(key_id)
        except jwt.PyJWKClientConnectionError:
            raise StoreUnavailable(
                "Credentials cannot be checked right now. Please try again shortly.",
                retry_after=REST_SECONDS,
            ) from None
        except jwt.PyJWTError:
            raise Unauthenticated() from None
