"""A little of what `python -m tests.outages` does: one outage of each thing we depend on."""

from collections.abc import Iterator

import pytest

from tests.chain.evm import Evm
from tests.outages.battery import outage
from tests.outages.shop import Shop, open_shop

pytestmark = pytest.mark.wire

HURRIED = {
    "x402jobs.services.readiness.LOOK_SECONDS": 0.3,
    "x402jobs.adapters.facilitator.availability.PAUSE_SECONDS": 0.5,
    "x402jobs.adapters.sqlite.database.BUSY_SECONDS": 1,
    "x402jobs.adapters.sqlite.database.WATCH_SECONDS": 0.5,
    "x402jobs.services.caretaker.BEAT_SECONDS": 1,
    "x402jobs.services.recovery.PAUSE_SECONDS": 0.5,
}
"""How often is looked, and how long is waited: nothing here is about seconds."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("outages"), Evm(), **HURRIED) as shop:
        yield shop


@pytest.mark.parametrize(
    "name", ["facilitator refuses", "node refuses", "file locked", "disk full", "Redis gone"]
)
def test_an_outage_costs_nobody_anything_is_named_and_passes(shop: Shop, name: str) -> None:
    report = outage(shop, name, is_timed=False)

    print(report)
    assert report.violations == []
