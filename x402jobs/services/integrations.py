"""The creator's Claude key: sealed at rest, opened to use, never shown."""

from x402jobs.domain.errors import TemplateUnavailable, Unreadable
from x402jobs.domain.listing import Listing
from x402jobs.domain.prompt_template import PromptTemplate
from x402jobs.domain.secret import Secret
from x402jobs.ports import Keys, Place, SecretBox


def claude_key_place(user_id: str) -> Place:
    """Where a user's Claude key rests."""
    return Place("x402_user_claude_configs", "api_key_encrypted", user_id)


class Integrations:
    """What a creator connects to the shop."""

    def __init__(self, keys: Keys, box: SecretBox) -> None:
        self._keys = keys
        self._box = box

    def save_claude_key(self, user_id: str, key: Secret, *, enabled: bool = True) -> None:
        """Seal the key and store it."""
        sealed = self._box.seal(key.reveal(), claude_key_place(user_id))
        self._keys.put_claude_key(user_id, sealed, enabled=enabled)

    def save_pay_to(self, user_id: str, address: str) -> None:
        """Store the address the creator is paid at."""
        self._keys.put_pay_to(user_id, address)

    def claude_key(self, listing: Listing, template: PromptTemplate) -> Secret:
        """The creator's key. Raises TemplateUnavailable: missing, disabled or unreadable.

        Nobody is asked to pay for a shop that is shut.
        """
        if listing.sealed_key is None:
            raise TemplateUnavailable()
        try:
            return self._box.open(listing.sealed_key, claude_key_place(template.owner_id))
        except Unreadable:
            raise TemplateUnavailable() from None
