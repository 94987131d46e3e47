"""Sealed Claude keys and payout addresses."""

from x402jobs.adapters.supabase.database import Database, stored
from x402jobs.domain.listing import ClaudeConfig


class SupabaseKeys:
    """ports.Keys over Supabase.

    Raises Unauthenticated where something is to be stored for an account that cannot be.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def claude_config(self, user_id: str) -> ClaudeConfig:
        return ClaudeConfig(**self._database.call("x402_claude_config", of_user=user_id))

    def sealed_claude_key(self, user_id: str) -> str | None:
        sealed: str | None = self._database.call("x402_sealed_claude_key", of_user=user_id)
        return sealed

    def put_claude_key(
        self, user_id: str, sealed_key: str | None, *, enabled: bool | None = None
    ) -> ClaudeConfig:
        said = self._database.call(
            "x402_put_claude_key", of_user=user_id, sealed_key=sealed_key, enabled=enabled
        )
        return ClaudeConfig(**stored(said))

    def delete_claude_key(self, user_id: str) -> None:
        self._database.call("x402_delete_claude_key", of_user=user_id)

    def pay_to(self, user_id: str) -> str | None:
        address: str | None = self._database.call("x402_pay_to", of_user=user_id)
        return address

    def put_pay_to(self, user_id: str, address: str) -> None:
        stored(self._database.call("x402_put_pay_to", of_user=user_id, address=address))

    def delete_pay_to(self, user_id: str) -> None:
        self._database.call("x402_delete_pay_to", of_user=user_id)
