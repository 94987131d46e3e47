"""Bearer tokens; spec/identity.md has their claims."""

from x402jobs.adapters.tokens.local import LocalTokens

__all__ = ["LocalTokens"]
