"""An account's own keys for its programs."""

import hmac
import secrets

from x402jobs.domain.caller import Caller, Method
from x402jobs.domain.credentials import EXTERNAL_KEY, ApiKey
from x402jobs.domain.errors import InvalidRequest, NotFound, TooManyRequests, Unauthenticated
from x402jobs.domain.page import Page
from x402jobs.domain.secret import Secret
from x402jobs.ports import Clock, Identities, Limits
from x402jobs.services.iam.pepper import Pepper

USED_SECONDS = 60
"""How exactly it is known when a key was last used: a write for each call would cost too much."""


class ApiKeys:
    """A key is shown once, when it is made. It is taken until it expires or is deleted."""

    def __init__(
        self, identities: Identities, pepper: Pepper, limits: Limits, clock: Clock
    ) -> None:
        self._identities = identities
        self._pepper = pepper
        self._limits = limits
        self._clock = clock

    def make(
        self, user_id: str, name: str, expires_at: float | None = None
    ) -> tuple[ApiKey, Secret]:
        """A new key, and its text. Raises InvalidRequest for an expiry that is past already, and
        TooManyRequests.
        """
        now = self._clock.now()
        if expires_at is not None and expires_at <= now:
            raise InvalidRequest("expiresAt: Must be in the future.", field="expiresAt")
        if (wait := self._limits.hit("api_key", user_id)) is not None:
            raise TooManyRequests(retry_after=wait)
        key_id = secrets.token_hex(8)
        text = f"xj_{key_id}_{secrets.token_urlsafe(32)}"
        digest = self._pepper.digest(text)
        key = ApiKey(key_id, user_id, name, digest, now, expires_at=expires_at)
        self._identities.add_api_key(key)
        return key, Secret(text)

    def page(self, user_id: str, limit: int, offset: int) -> Page[ApiKey]:
        """The account's keys, newest first, expired ones too."""
        return self._identities.api_keys(user_id, limit, offset)

    def delete(self, user_id: str, key_id: str) -> None:
        """It is taken no more, from the next call on. Raises NotFound, for others' keys as well."""
        if not self._identities.delete_api_key(user_id, key_id):
            raise NotFound("There is no such key.")

    def caller(self, shown: str) -> Caller:
        """Whose key this is. Raises Unauthenticated for one that is unknown, deleted or over."""
        match, now = EXTERNAL_KEY.fullmatch(shown), self._clock.now()
        if match is None:
            raise Unauthenticated()
        digest, key = self._pepper.digest(shown), self._identities.api_key(match[1])
        if key is None or not hmac.compare_digest(key.digest, digest):
            raise Unauthenticated()
        if key.expires_at is not None and key.expires_at <= now:
            raise Unauthenticated()
        if key.last_used_at is None or key.last_used_at <= now - USED_SECONDS:
            self._identities.note_api_key_used(key.id, now)
        return Caller(key.user_id, Method.EXTERNAL)
