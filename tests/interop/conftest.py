"""The shops that other people's clients buy from: the one of the wire tests, and one on three
networks."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.blueprints.conftest import SEPOLIA
from tests.interop.several_networks import play_ledger
from tests.wire.conftest import Server, postgres, running, server, serving

__all__ = ["postgres", "running", "server"]  # fixtures, which pytest finds here


@pytest.fixture(scope="session")
def on_three_networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its ledger is the second network's, the one that version 1 has a name for."""
    directory = tmp_path_factory.mktemp("interop")
    with serving(directory, app="tests.interop.several_networks:app()") as shop:
        ledger = play_ledger(shop.settings.data, SEPOLIA)
        yield replace(shop, ledger=ledger)
        ledger.close()


@pytest.fixture
def several(on_three_networks: Server, server: Server) -> Server:
    """The shop on three networks, met with the same new wallet."""
    return on_three_networks.visit(server.wallet)
