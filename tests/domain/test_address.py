"""Which address a creator can be paid at."""

import pytest

from x402jobs.domain.address import payout_address
from x402jobs.domain.networks import NETWORKS

# EIP-55's own examples.
EXAMPLES = [
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0xde709f2102306220921060314715629080e2fb77",
]


@pytest.mark.parametrize("address", EXAMPLES)
def test_an_address_is_spelled_as_eip_55_does(address):
    assert payout_address(address) == address
    assert payout_address(address.lower()) == address
    assert payout_address("0x" + address[2:].upper()) == address


@pytest.mark.parametrize("address", EXAMPLES[:4])
def test_a_checksum_that_is_wrong_in_one_letter_is_refused(address):
    letters = [at for at in range(2, 42) if address[at].isalpha()]

    for at in letters:
        with pytest.raises(ValueError, match="EIP-55"):
            payout_address(address[:at] + address[at].swapcase() + address[at + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        EXAMPLES[0][2:],
        EXAMPLES[0][:-1],
        EXAMPLES[0] + "0",
        " " + EXAMPLES[0],
        EXAMPLES[0] + "\n",
        "0X" + EXAMPLES[0][2:],
        "0x" + "g" * 40,
        "0x" + "١" * 40,
        "vitalik.eth",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="40 hexadecimal digits"):
        payout_address(text)


def test_the_zero_address_is_refused():
    with pytest.raises(ValueError, match="zero address"):
        payout_address("0x" + "0" * 40)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("spelling", [str, str.lower])
def test_a_tokens_own_address_is_refused(network, spelling):
    with pytest.raises(ValueError, match="token's own"):
        payout_address(spelling(network.token))
