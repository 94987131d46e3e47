"""One suite for every store: what ports.Ledger, Catalogue, Keys, Tiles and SealedValues promise."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar

import pytest

from tests.supabase.rig import Rig
from x402jobs.adapters.sqlite import embedded_store
from x402jobs.adapters.supabase import supabase_store
from x402jobs.adapters.tile_rows import to_row
from x402jobs.domain.execution import Execution, Kind, State
from x402jobs.domain.listing import StoredTemplate
from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.domain.secret import Secret
from x402jobs.domain.tile import Tile
from x402jobs.ports import (
    Catalogue,
    Closable,
    Identities,
    Keys,
    Ledger,
    LedgerAudit,
    SealedValues,
    Tiles,
)

CLAIM_KEY = "eip3009:eip155:31337:0xd0:0xada:0x01"
HAIKU = StoredTemplate(
    id="00000000-0000-4000-8000-000000000001",
    version=1,
    owner_id="",
    username="ada",
    slug="haiku",
    name="Haiku",
    description="A haiku",
    price=10_000,
    sealed_prompt="v1.k1.sealed",
    parameters='[{"name": "topic"}]',
    model="claude",
    max_tokens=100,
    allows_user_message=False,
    network="eip155:31337",
    created_at=1000.5,
    updated_at=1001.5,
)


Told = TypeVar("Told")

PATIENT = {"opening_seconds": 1e10, "run_seconds": 1e10}
"""For a take-over to which no row is too old."""


class Worker(Protocol):
    """One worker's own connection to the store."""

    audit: LedgerAudit
    catalogue: Catalogue
    database: Closable
    identities: Identities
    keys: Keys
    ledger: Ledger
    sealed: SealedValues
    tiles: Tiles


class Store(Worker, Protocol):
    """A store under test, and what its contract needs to see behind the ports' backs.

    `ada` has published HAIKU.
    """

    ada: str

    def worker(self) -> Worker:
        """Another worker's own view of the same store."""
        ...

    def column(self, execution: Execution, name: str) -> Any:
        """One column of the row as it rests."""
        ...

    def now(self) -> float:
        """The database's clock, in unix seconds."""
        ...

    def unseen(self, worker: str, seconds: float) -> None:
        """Let the worker's last beat be so long ago."""
        ...

    def plant_tiles(self, tiles: Iterable[Tile]) -> None:
        """Add them in this order, however many there are."""
        ...


class SqliteStore:
    """The embedded store of a data directory."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._workers: list[Worker] = []
        self._open(self)

    def worker(self) -> Worker:
        return self._open(SimpleNamespace())

    def column(self, execution: Execution, name: str) -> Any:
        sql = f'SELECT "{name}" FROM x402_executions WHERE id = ?'
        return self._ask(sql, execution.id)[0][0]

    def now(self) -> float:
        return float(self._ask("SELECT (julianday('now') - 2440587.5) * 86400.0")[0][0])

    def unseen(self, worker: str, seconds: float) -> None:
        sql = "INSERT OR REPLACE INTO x402_workers VALUES (?, ?)"
        self._ask(sql, worker, self.now() - seconds)

    def plant_tiles(self, tiles: Iterable[Tile]) -> None:
        for each in tiles:
            self.tiles.add(each)

    def close(self) -> None:
        for worker in self._workers:
            worker.database.close()

    def _open(self, worker: Any) -> Any:
        vars(worker).update(vars(embedded_store(self.data)))
        self._workers.append(worker)
        return worker

    def _ask(self, sql: str, *values: object) -> list[Any]:
        connection = sqlite3.connect(self.data / "x402jobs.sqlite3")
        try:
            with connection:
                return connection.execute(sql, values).fetchall()
        finally:
            connection.close()


class SupabaseStore:
    """A Supabase project's store; every row of it is forgotten first."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._workers: list[Worker] = []
        rig.empty()
        self._open(self)

    def worker(self) -> Worker:
        return self._open(SimpleNamespace())

    def column(self, execution: Execution, name: str) -> Any:
        sql = f"select {name} from x402_executions where id = %s"
        return self._rig.sql(sql, execution.id)[0][name]

    def now(self) -> float:
        return float(self._rig.sql("select x402_now() as now")[0]["now"])

    def unseen(self, worker: str, seconds: float) -> None:
        self._rig.sql(
            """insert into x402_workers values (%s, %s)
            on conflict (id) do update set seen_at = excluded.seen_at""",
            worker,
            self.now() - seconds,
        )

    def plant_tiles(self, tiles: Iterable[Tile]) -> None:
        """By the function that adds one, past the door that takes ten milliseconds for each."""
        added = self._rig.sql(
            "select x402_add_tile(tile, false)::json ->> 'said' as said"
            " from jsonb_array_elements_text(%s) with ordinality as each(tile, number)",
            json.dumps([json.dumps(to_row(each)) for each in tiles]),
        )
        assert {each["said"] for each in added} == {"added"}

    def close(self) -> None:
        for worker in self._workers:
            worker.database.close()

    def _open(self, worker: Any) -> Any:
        store = supabase_store(self._rig.url, Secret(self._rig.secret_key))
        vars(worker).update(vars(store))
        self._workers.append(worker)
        return worker


STORES = ("sqlite", "supabase")


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Any
    if request.param == "sqlite":
        store = SqliteStore(tmp_path / "data")
    else:
        store = SupabaseStore(request.getfixturevalue("rig"))
    store.ada = store.catalogue.add_user("ada")
    store.catalogue.add_template(replace(HAIKU, owner_id=store.ada))
    yield store
    store.close()


def bought(**changes: Any) -> Execution:
    """A claim of HAIKU, with changes."""
    claim: dict[str, Any] = {
        "id": "e1",
        "kind": Kind.PAID,
        "state": State.CLAIMED,
        "template_id": HAIKU.id,
        "template_version": 1,
        "digest": "d1",
        "worker": "w1",
        "created_at": 1000.25,
        "claim_key": CLAIM_KEY,
        "payer": "0xada",
        "network": DEVELOPMENT.id,
        "amount": 10_000,
        "valid_before": 1120,
    }
    return Execution(**claim | changes)


def ran(**changes: Any) -> Execution:
    """A task that has begun, with changes."""
    task: dict[str, Any] = {
        "id": "r1",
        "kind": Kind.TASK,
        "state": State.CLAIMED,
        "template_id": None,
        "template_version": None,
        "tile": "u,0:1",
        "caller_id": "u",
        "digest": "d1",
        "worker": "w1",
        "created_at": 1000.25,
    }
    return Execution(**task | changes)


def earlier(worker: Worker, claim_key: str = CLAIM_KEY) -> Execution | None:
    """What the store knows about a payment."""
    return worker.catalogue.listing("nobody", "nothing", claim_key).earlier


def walked(worker: Worker, *states: State, **facts: Any) -> Execution:
    """A row that has gone through these states."""
    row = worker.ledger.claim(bought())
    assert row is not None
    for state in states:
        if state is State.SETTLED:
            facts = {"transaction": "0x1"} | facts
        after = row.become(state, **facts)
        worker.ledger.swap(row, after)
        row = after
    return row


def race(count: int, run: Callable[[int], Told]) -> list[Told]:
    """What `run(0)`, `run(1)`, … came to, all begun together."""
    together = Barrier(count)

    def begin(number: int) -> Told:
        together.wait()
        return run(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count)))
