"""The networks money can move on."""

import re

import pytest
from x402.mechanisms.evm.default_assets import DEFAULT_ASSETS
from x402.mechanisms.evm.v1.constants import V1_NETWORK_CHAIN_IDS

from x402jobs.domain.networks import DEVELOPMENT, NETWORKS, Networks

BASE, SEPOLIA = NETWORKS["eip155:8453"], NETWORKS["eip155:84532"]
REAL = [network for network in NETWORKS.values() if not network.development]


@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: network.id)
def test_a_network_is_found_by_its_chain_and_has_a_token(network):
    assert network.id == f"eip155:{network.chain_id}"
    assert NETWORKS[network.id] is network
    assert re.fullmatch(r"0x[0-9a-f]{40}", network.token.lower())
    assert network.token_name and network.token_version


@pytest.mark.parametrize("network", REAL, ids=lambda network: network.id)
def test_the_sdk_knows_the_same_token_under_the_same_domain(network):
    (usdc,) = [each for each in DEFAULT_ASSETS[network.id] if each["symbol"] == "USDC"]

    assert (usdc["asset"], usdc["decimals"]) == (network.token, 6)
    assert (usdc["name"], usdc["version"]) == (network.token_name, network.token_version)
    assert V1_NETWORK_CHAIN_IDS[network.short_name] == network.chain_id


def test_play_money_says_that_it_is_and_has_no_name_in_version_1():
    assert DEVELOPMENT.development
    assert DEVELOPMENT.token_name == "Development Dollar"
    assert DEVELOPMENT.short_name is None


@pytest.mark.parametrize("name", ["base", "eip155:8453"])
def test_a_network_answers_to_both_of_its_names(name):
    assert Networks((DEVELOPMENT, BASE)).find(name) is BASE


@pytest.mark.parametrize("name", ["", "Base", "base-sepolia", "eip155:84532", "None", "8453"])
def test_what_is_not_offered_is_not_found(name):
    assert Networks((DEVELOPMENT, BASE)).find(name) is None


def test_the_ledger_may_speak_of_what_is_offered_no_longer():
    assert Networks((BASE,)).known("base-sepolia") is SEPOLIA
    assert Networks((BASE,)).known("nowhere") is None
