"""Keys by which trusted services speak for an account."""

import re
import secrets

from x402jobs.domain.caller import Caller, Method
from x402jobs.domain.credentials import INTERNAL_KEY, InternalKey
from x402jobs.domain.errors import InvalidRequest, Unauthenticated, Unreadable
from x402jobs.domain.secret import Secret
from x402jobs.ports import Clock, Identities, Place, SecretBox
from x402jobs.services.iam.api_keys import USED_SECONDS
from x402jobs.services.iam.pepper import Pepper

PURPOSE = re.compile(r"[a-z0-9-]{1,64}")


def internal_key_place(key_id: str) -> Place:
    """Where an internal key rests."""
    return Place("x402_internal_api_keys", "sealed_key", key_id)


class InternalKeys:
    """One key for each account and purpose. Its expiry is fixed when it is made."""

    def __init__(
        self, identities: Identities, pepper: Pepper, box: SecretBox, clock: Clock
    ) -> None:
        self._identities = identities
        self._pepper = pepper
        self._box = box
        self._clock = clock

    def get_or_create(
        self, user_id: str, purpose: str, ttl: float | None = None
    ) -> tuple[InternalKey, Secret]:
        """The key there is, or a new one that lives for `ttl` seconds, for ever without.

        One that is over, or that no longer opens, is replaced. Of several who ask at once all get
        the same. Raises InvalidRequest.
        """
        _check(purpose, ttl)
        found = self._identities.internal_key(user_id, purpose)
        if found is not None and (text := self._opened(found)) is not None:
            return found, text
        return self._replace(found, user_id, purpose, ttl)

    def rotate(
        self, user_id: str, purpose: str, ttl: float | None = None
    ) -> tuple[InternalKey, Secret]:
        """A new key in the place of the one there is, which is taken no more."""
        _check(purpose, ttl)
        found = self._identities.internal_key(user_id, purpose)
        return self._replace(found, user_id, purpose, ttl)

    def caller(self, shown: str, hint: str | None) -> Caller:
        """Whose key this is, who must be who the hint says.

        Raises Unauthenticated for one that is unknown, rotated or over.
        """
        if INTERNAL_KEY.fullmatch(shown) is None:
            raise Unauthenticated()
        key = self._identities.internal_key_of(self._pepper.digest(shown))
        if key is None or self._is_over(key) or hint not in (None, key.user_id):
            raise Unauthenticated()
        now = self._clock.now()
        if key.last_used_at is None or key.last_used_at <= now - USED_SECONDS:
            self._identities.note_internal_key_used(key.id, now)
        return Caller(key.user_id, Method.INTERNAL)

    def _replace(
        self, before: InternalKey | None, user_id: str, purpose: str, ttl: float | None
    ) -> tuple[InternalKey, Secret]:
        """Put a fresh key where `before` still is; whoever was faster has made the one to take."""
        key_id, now = secrets.token_hex(8), self._clock.now()
        text = f"xi_{key_id}_{secrets.token_urlsafe(32)}"
        fresh = InternalKey(
            id=key_id,
            user_id=user_id,
            purpose=purpose,
            digest=self._pepper.digest(text),
            sealed_key=self._box.seal(text, internal_key_place(key_id)),
            created_at=now,
            expires_at=None if ttl is None else now + ttl,
        )
        key = self._identities.put_internal_key(fresh, before.id if before is not None else None)
        return key, self._box.open(key.sealed_key, internal_key_place(key.id))

    def _opened(self, key: InternalKey) -> Secret | None:
        """The key's text, None where it is over: also for a text that would be refused."""
        try:
            text = self._box.open(key.sealed_key, internal_key_place(key.id))
        except Unreadable:
            return None
        is_taken = self._pepper.digest(text.reveal()) == key.digest
        return text if is_taken and not self._is_over(key) else None

    def _is_over(self, key: InternalKey) -> bool:
        return key.expires_at is not None and key.expires_at <= self._clock.now()


def _check(purpose: str, ttl: float | None) -> None:
    if PURPOSE.fullmatch(purpose) is None:
        raise InvalidRequest(
            "purpose: 1 to 64 lower-case letters, digits and hyphens, please.", field="purpose"
        )
    if ttl is not None and ttl <= 0:
        raise InvalidRequest("ttl: Must be more than nothing.", field="ttl")
