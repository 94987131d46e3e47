"""The networks money can move on."""

import re

import pytest

from x402jobs.domain.networks import DEVELOPMENT, NETWORKS


@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: network.id)
def test_a_network_is_found_by_its_chain_and_has_a_token(network):
    assert network.id == f"eip155:{network.chain_id}"
    assert NETWORKS[network.id] is network
    assert re.fullmatch(r"0x[0-9a-f]{40}", network.token.lower())
    assert network.token_name and network.token_version


def test_play_money_says_that_it_is():
    assert DEVELOPMENT.development
    assert DEVELOPMENT.token_name == "Development Dollar"
