"""The networks money can move on, and the token each one uses."""

from dataclasses import dataclass

from x402jobs.domain.errors import InvalidRequest


@dataclass(frozen=True)
class Network:
    """A chain and its token.

    `id` is the CAIP-2 name (x402 v2); `short_name` the one of x402 v1 and of the origin's tables,
    None where there is none. `token_name` and `token_version` are the token contract's EIP-712
    domain, which every signature is bound to, so they must equal the contract's own.
    """

    id: str
    chain_id: int
    token: str
    token_name: str
    token_version: str
    short_name: str | None = None
    development: bool = False

    def is_called(self, name: str) -> bool:
        """Whether this is one of its names."""
        return name in (self.id, self.short_name)


DEVELOPMENT = Network(
    id="eip155:31337",
    chain_id=31337,
    token="0xd0110a7000000000000000000000000000031337",
    token_name="Development Dollar",
    token_version="1",
    development=True,
)
"""Play money with real signatures. No real wallet uses this chain id and no chain this token."""


def _usdc(chain_id: int, short_name: str, token: str, token_name: str = "USD Coin") -> Network:
    return Network(f"eip155:{chain_id}", chain_id, token, token_name, "2", short_name)


NETWORKS = {
    network.id: network
    for network in (
        DEVELOPMENT,
        _usdc(8453, "base", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
        _usdc(84532, "base-sepolia", "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "USDC"),
        _usdc(137, "polygon", "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359"),
        _usdc(43114, "avalanche", "0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E"),
    )
}
"""Every network we know, by its CAIP-2 name: Circle's USDC, and play money."""


@dataclass(frozen=True)
class Networks:
    """What this shop takes payments on, the preferred one first."""

    offered: tuple[Network, ...]

    def find(self, name: str) -> Network | None:
        """The offered network of this name, CAIP-2 or short."""
        return next((each for each in self.offered if each.is_called(name)), None)

    def choose(self, name: str) -> Network:
        """The same, for a caller who asks for it. Raises InvalidRequest naming those there are."""
        if (network := self.find(name)) is None:
            names = ", ".join(each.short_name or each.id for each in self.offered)
            raise InvalidRequest(f"network must be one of: {names}.", field="network")
        return network

    def known(self, name: str) -> Network | None:
        """The same, or one that is offered no longer: the ledger may still speak of it."""
        return self.find(name) or next(
            (each for each in NETWORKS.values() if each.is_called(name)), None
        )
