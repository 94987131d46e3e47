"""What is stored of a credential instead of the credential."""

import hmac
import secrets
from functools import cached_property

import structlog

from x402jobs.domain.errors import StoreUnavailable, Unreadable
from x402jobs.domain.secret import Secret
from x402jobs.ports import Identities, Place, SecretBox

log = structlog.get_logger(__name__)

NAME = "credentials"


class OtherRing(StoreUnavailable):
    """The key ring at hand is not the one that the store is sealed with."""

    sentence = "Credentials cannot be checked right now."


def pepper_place(name: str) -> Place:
    """Where a pepper rests."""
    return Place("x402_peppers", "sealed_pepper", name)


class Pepper:
    """A secret of the store's own, sealed in it; without it no digest says whose it is.

    It is sealed like everything else and so outlives every change of the key ring
    (docs/decisions/0014-a-pepper-in-the-store.md).
    """

    def __init__(self, identities: Identities, box: SecretBox) -> None:
        self._identities = identities
        self._box = box

    def digest(self, shown: str) -> str:
        """HMAC-SHA256 in hex. Raises StoreUnavailable while the pepper does not open."""
        return hmac.digest(bytes.fromhex(self._pepper.reveal()), shown.encode(), "sha256").hex()

    def check(self) -> None:
        """Raises StoreUnavailable where this key ring is not the one that the store is sealed with.

        Of all that is sealed the pepper is the first, and there from then on.
        """
        _ = self._pepper

    @cached_property
    def _pepper(self) -> Secret:
        place = pepper_place(NAME)
        fresh = self._box.seal(secrets.token_hex(32), place)
        try:
            return self._box.open(self._identities.pepper(NAME, fresh), place)
        except Unreadable:
            log.error("pepper_not_read", reason="the key ring has no key that opens it")
            raise OtherRing() from None
