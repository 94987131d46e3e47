"""Who signed an authorization: recovered here, and nobody is asked."""

from eth_abi.exceptions import EncodingError
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from x402.mechanisms.evm.eip712 import hash_eip3009_authorization
from x402.mechanisms.evm.types import ExactEIP3009Authorization

from x402jobs.domain.networks import Network
from x402jobs.domain.payment import Authorization

_HALF_THE_CURVE = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def recover(signed: Authorization, signature: bytes, network: Network) -> str | None:
    """Whose key signed this authorization for the network's token: a lower-case address, or None.

    As strict as Circle's token: 65 bytes, v 27 or 28, s in the lower half of the curve's order.
    The SDK's verifier would take a v of 0 or 1 and either s; no client of the SDK's makes them.
    """
    v, s = signature[64:], int.from_bytes(signature[32:64])
    if v not in (b"\x1b", b"\x1c") or not 0 < s <= _HALF_THE_CURVE:
        return None
    try:
        digest = hash_eip3009_authorization(
            ExactEIP3009Authorization(
                from_address=signed.payer,
                to=signed.to,
                value=str(signed.value),
                valid_after=str(signed.valid_after),
                valid_before=str(signed.valid_before),
                nonce=signed.nonce,
            ),
            network.chain_id,
            network.token,
            network.token_name,
            network.token_version,
        )
        recoverable = Signature(signature[:64] + bytes([v[0] - 27]))
        return str(recoverable.recover_public_key_from_msg_hash(digest).to_address())
    except (BadSignature, ValidationError, EncodingError):  # no such point; a number over 256 bits
        return None
