"""A shop on three networks, each with a play ledger of its own."""

from pathlib import Path

from flask import Flask

from tests.blueprints.conftest import SEPOLIA, Chains
from x402jobs.adapters.facilitator import X402Facilitator
from x402jobs.app import create_app
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.domain.networks import DEVELOPMENT, NETWORKS, Network, Networks
from x402jobs.settings import Settings
from x402jobs.wiring import Money, build_services, development_ledger

BASE = NETWORKS["eip155:8453"]
"""What every client knows by itself. Its token is real, so no test may have anything signed for it:
it is here for prices that clients refuse."""

OFFERED = (DEVELOPMENT, SEPOLIA, BASE)


def play_ledger(data: Path, network: Network) -> DevelopmentLedger:
    """The play money of a network in this data directory."""
    if network is DEVELOPMENT:
        return development_ledger(data)
    return DevelopmentLedger(data / f"ledger-{network.chain_id}.sqlite3", network)


def money(data: Path) -> Money:
    """One facilitator for every ledger, and each ledger the judge of its own network."""
    ledgers = tuple(play_ledger(data, network) for network in OFFERED)
    first, *others = ledgers
    facilitator = first.facilitator()
    for ledger in others:
        ledger.join(facilitator)
    return Money(X402Facilitator(facilitator), Chains(ledgers), Networks(OFFERED), ledgers)


def app() -> Flask:
    """The application over the environment's settings and this money."""
    settings = Settings.from_env()
    return create_app(settings, build_services(settings, money(settings.data)))
