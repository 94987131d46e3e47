"""The networks money can move on, and the token each one uses."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """A chain and its token.

    `id` is the CAIP-2 name (x402 v2); `token_name` and `token_version` are the token contract's
    EIP-712 domain, which every signature is bound to, so they must equal the contract's own.
    """

    id: str
    chain_id: int
    token: str
    token_name: str
    token_version: str
    development: bool = False


DEVELOPMENT = Network(
    id="eip155:31337",
    chain_id=31337,
    token="0xd0110a7000000000000000000000000000031337",
    token_name="Development Dollar",
    token_version="1",
    development=True,
)
"""Play money with real signatures. No real wallet uses this chain id and no chain this token."""

NETWORKS = {network.id: network for network in (DEVELOPMENT,)}
