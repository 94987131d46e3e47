"""The creator's Claude key: sealed at rest, opened to use, never shown."""

from x402jobs.domain.address import payout_address
from x402jobs.domain.errors import InvalidRequest, TemplateUnavailable, Unreadable
from x402jobs.domain.listing import ClaudeConfig, Listing
from x402jobs.domain.prompt_template import PromptTemplate
from x402jobs.domain.secret import Secret
from x402jobs.ports import Keys, Place, SecretBox


def claude_key_place(user_id: str) -> Place:
    """Where a user's Claude key rests."""
    return Place("x402_user_claude_configs", "api_key_encrypted", user_id, "aes-256-cbc")


class Integrations:
    """What a creator connects to the shop."""

    def __init__(self, keys: Keys, box: SecretBox) -> None:
        self._keys = keys
        self._box = box

    def claude_config(self, user_id: str) -> ClaudeConfig:
        """What is stored, without the key."""
        return self._keys.claude_config(user_id)

    def save_claude_config(
        self, user_id: str, key: Secret | None, *, enabled: bool | None = None
    ) -> ClaudeConfig:
        """Seal and store the key; None keeps what is stored. Returns what is stored afterwards.

        Raises InvalidRequest when there is no key, neither here nor there.
        """
        sealed = None
        if key is not None:
            sealed = self._box.seal(key.reveal(), claude_key_place(user_id))
        config = self._keys.put_claude_key(user_id, sealed, enabled=enabled)
        if not config.has_key:
            raise InvalidRequest("apiKey is required", field="apiKey")
        return config

    def forget_claude_key(self, user_id: str) -> ClaudeConfig:
        """Remove the key, if there is one."""
        self._keys.delete_claude_key(user_id)
        return ClaudeConfig()

    def pay_to(self, user_id: str) -> str | None:
        """Where the creator is paid."""
        return self._keys.pay_to(user_id)

    def save_pay_to(self, user_id: str, address: str) -> str:
        """Store the address the creator is paid at, on every network the shop offers.

        Returns its EIP-55 spelling. Raises InvalidRequest.
        """
        try:
            spelled = payout_address(address)
        except ValueError as error:
            raise InvalidRequest(f"baseAddress: {error}.", field="baseAddress") from None
        self._keys.put_pay_to(user_id, spelled)
        return spelled

    def forget_pay_to(self, user_id: str) -> None:
        """Remove the payout address, if there is one."""
        self._keys.delete_pay_to(user_id)

    def warnings(self, user_id: str, price: int) -> list[str]:
        """Why nobody can call the creator's templates yet, in sentences with the mend."""
        config, warnings = self._keys.claude_config(user_id), []
        if not config.has_key:
            warnings.append(
                "No Claude key is stored: PUT /integrations/claude/config, "
                "or x402jobs integrations claude set."
            )
        elif not config.is_enabled:
            warnings.append(
                "Your Claude key is switched off: PUT /integrations/claude/config, "
                "or x402jobs integrations claude on."
            )
        if price and self._keys.pay_to(user_id) is None:
            warnings.append(
                "No payout address is stored: PUT /integrations/wallet/config, "
                "or x402jobs integrations wallet set."
            )
        return warnings

    def own_claude_key(self, user_id: str) -> Secret | None:
        """The account's own key; None when it is missing, switched off or unreadable."""
        sealed = self._keys.sealed_claude_key(user_id)
        if sealed is None:
            return None
        try:
            return self._box.open(sealed, claude_key_place(user_id))
        except Unreadable:
            return None

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
