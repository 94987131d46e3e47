"""Who signed an authorization: recovered here, and nobody is asked.

The hash is packed here, in 12 µs: the SDK spells the types out anew for each, in 90. That the two
are the same is what tests/adapters/test_facilitator.py holds it to.
"""

from functools import lru_cache

from coincurve import PublicKey
from eth_utils.crypto import keccak
from x402.mechanisms.evm.eip712 import hash_domain
from x402.mechanisms.evm.types import TypedDataDomain

from x402jobs.domain.networks import Network
from x402jobs.domain.payment import Authorization

_HALF_THE_CURVE = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_TYPE = keccak(
    text="TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,"
    "uint256 validBefore,bytes32 nonce)"
)
"""Source: EIP-3009. All of it is static: each value is one word of 32 bytes."""


@lru_cache(maxsize=256)
def recover(signed: Authorization, signature: bytes, network: Network) -> str | None:
    """Whose key signed this authorization for the network's token: a lower-case address, or None.

    Kept for a while: of one payment it is asked again by the development ledger, at verifying and
    at settling, and by whoever presents it again.

    As strict as Circle's token: 65 bytes, v 27 or 28, s in the lower half of the curve's order.
    The SDK's verifier would take a v of 0 or 1 and either s; no client of the SDK's makes them.
    """
    v, s = signature[64:], int.from_bytes(signature[32:64])
    if v not in (b"\x1b", b"\x1c") or not 0 < s <= _HALF_THE_CURVE:
        return None
    recoverable = signature[:64] + bytes([v[0] - 27])
    try:
        digest = digest_of(signed, network)
        key = PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    except (OverflowError, ValueError):  # a number over 256 bits; no such point
        return None
    return f"0x{keccak(key.format(compressed=False)[1:])[-20:].hex()}"


def digest_of(signed: Authorization, network: Network) -> bytes:
    """What the payer's key signs (EIP-712). Raises OverflowError for a number over 256 bits."""
    words = (
        int(signed.payer, 16),
        int(signed.to, 16),
        signed.value,
        signed.valid_after,
        signed.valid_before,
        int(signed.nonce, 16),
    )
    struct = keccak(_TYPE + b"".join(word.to_bytes(32) for word in words))
    return keccak(b"\x19\x01" + _domain(network) + struct)


@lru_cache
def _domain(network: Network) -> bytes:
    return hash_domain(
        TypedDataDomain(
            name=network.token_name,
            version=network.token_version,
            chain_id=network.chain_id,
            verifying_contract=network.token,
        )
    )
