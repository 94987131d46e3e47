"""An account's address on an EVM network."""

import re

from eth_utils.address import is_checksum_address, to_checksum_address

from x402jobs.domain.networks import NETWORKS

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


def payout_address(text: str) -> str:
    """The address in EIP-55 spelling. Raises ValueError with the reason.

    Mixed case is a checksum and must be right; all lower or all upper case carries none. Money
    sent to the zero address, or to a token's own, is lost, so these are refused.
    """
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError("0x and 40 hexadecimal digits are needed")
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and not is_checksum_address(text):
        raise ValueError("the checksum in its letter case (EIP-55) is wrong; copy it again")
    if int(digits, 16) == 0:
        raise ValueError("nobody has the zero address")
    if text.lower() in {network.token.lower() for network in NETWORKS.values()}:
        raise ValueError("this is a token's own address, not an account")
    return str(to_checksum_address(text))
