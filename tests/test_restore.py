"""A backup brought back, by the steps of docs/operations.md: what is known again, and what is lost.

The development ledger stands for the chain, which nobody can restore.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import RAIN, Shop, events
from x402jobs.app import create_app
from x402jobs.wiring import audit, build_services, development_ledger


def backup(source: Path, to: Path) -> None:
    """SQLite's own, of a file that is being written to."""
    with closing(sqlite3.connect(source)) as served, closing(sqlite3.connect(to)) as kept:
        served.backup(kept)


def restored(shop: Shop, kept: Path, to: Path) -> Path:
    """A new directory with the backup, the keys of then, and the money as it is now."""
    to.mkdir(mode=0o700)
    shutil.copy2(kept, to / "x402jobs.sqlite3")
    for name in ("keys", "token-secret"):
        if (shop.settings.data / name).exists():
            shutil.copy2(shop.settings.data / name, to / name)
    backup(shop.settings.data / "development-ledger.sqlite3", to / "development-ledger.sqlite3")
    return to


@pytest.fixture
def again(shop: Shop, tmp_path: Path) -> Iterator[tuple[Shop, dict[str, str], dict[str, str]]]:
    """The shop after its restore, a payment from before the backup, and one from after it."""
    kept = tmp_path / "kept.sqlite3"
    before, after = shop.payment(), shop.payment()
    shop.client.post(shop.url, json=RAIN, headers=before).get_data()
    backup(shop.settings.data / "x402jobs.sqlite3", kept)
    shop.client.post(shop.url, json=RAIN, headers=after).get_data()
    shop.services.close()
    settings = replace(shop.settings, data=restored(shop, kept, tmp_path / "restored"))
    services, ledger = build_services(settings), development_ledger(settings.data)
    client = create_app(settings, services).test_client()
    yield (
        replace(shop, settings=settings, services=services, client=client, ledger=ledger),
        before,
        after,
    )
    ledger.close()
    services.close()


def test_what_was_sold_before_the_backup_is_answered_again_and_charged_no_more(
    again: tuple[Shop, dict[str, str], dict[str, str]],
) -> None:
    shop, before, _ = again

    reply = shop.client.post(shop.url, json=RAIN, headers=before)

    assert events(reply)[-1]["type"] == "done"
    assert len(shop.ledger.transfers()) == 2
    assert len(shop.claude.calls) == 2


def test_what_was_sold_after_it_is_not_sold_twice_and_the_check_names_it(
    again: tuple[Shop, dict[str, str], dict[str, str]],
) -> None:
    shop, _, after = again
    (_, lost) = shop.ledger.transfers()

    (broken,) = audit(shop.settings).check().broken
    reply = shop.client.post(shop.url, json=RAIN, headers=after)

    assert (broken.name, list(broken.rows)) == ("transfer_has_row", [lost.transaction])
    assert reply.status_code == 402
    assert len(shop.ledger.transfers()) == 2
