"""Whether a store can be worked with: it is there, takes writes, and has this version's tables."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg

from tests.contract.conftest import Store
from tests.supabase.front import Fault, answer, page
from tests.supabase.outages import read_only, stopped
from tests.supabase.rig import Rig
from tests.waiting import eventually
from x402jobs.adapters import sqlite
from x402jobs.adapters.migrations import migrations
from x402jobs.adapters.sqlite import database, embedded_database
from x402jobs.adapters.supabase.database import SCHEMA, Database
from x402jobs.domain.secret import Secret


def test_a_store_that_is_well_has_no_trouble(store: Store) -> None:
    assert store.database.trouble() is None


def reason(of: Database | sqlite.Database) -> str | None:
    trouble = of.trouble()
    assert trouble is None or "http" not in trouble.sentence
    return trouble.reason if trouble else None


def test_a_file_that_another_process_holds_is_locked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(database, "WATCH_SECONDS", 0)
    ours = embedded_database(tmp_path)
    assert reason(ours) is None

    with closing(sqlite3.connect(tmp_path / "x402jobs.sqlite3", isolation_level=None)) as theirs:
        theirs.execute("BEGIN IMMEDIATE")
        assert reason(ours) == "locked"
        assert ours.read("SELECT 1")

    assert reason(ours) is None


def test_a_file_of_a_newer_version_is_not_worked_with(tmp_path: Path) -> None:
    ours = embedded_database(tmp_path)
    assert reason(ours) is None

    with closing(sqlite3.connect(tmp_path / "x402jobs.sqlite3")) as theirs:
        theirs.execute("PRAGMA user_version = 99")

    assert reason(ours) == "newer_schema"
    ours.close()
    assert reason(ours) == "newer_schema"


def test_a_file_that_is_none_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "x402jobs.sqlite3").write_bytes(b"not a database" * 100)

    assert reason(embedded_database(tmp_path)) == "damaged"


def test_the_newest_migration_is_the_one_that_is_asked_for(rig: Rig) -> None:
    (row,) = rig.sql("select public.x402_ready()::json ->> 'schema' as schema")

    assert SCHEMA == migrations()[-1].version == row["schema"]


def test_a_project_says_what_is_wrong_with_it(rig: Rig) -> None:
    ours = Database(rig.url, Secret(rig.secret_key))
    said = {
        "not_migrated": answer(404, '{"code":"PGRST202"}'),
        "refused": answer(401, '{"code":"PGRST301"}'),
        "no_answer": b"",
    }
    for expected, says in said.items():
        rig.front.always(Fault(carried_out=False, says=says, length=len(says)))
        assert reason(ours) == expected
    rig.front.always(page(540))
    assert "paused" in (ours.trouble() or said).sentence  # type: ignore[union-attr]
    for standing, expected in {
        '{"schema": "20261121000001", "writable": true}': "not_migrated",
        f'{{"schema": "{SCHEMA}", "writable": false}}': "read_only",
        f'{{"schema": "{SCHEMA}9", "writable": true}}': None,
        "[]": "not_migrated",
    }.items():
        rig.front.always(Fault(says=answer(200, json.dumps(standing))))
        assert reason(ours) == expected
    rig.front.forget()
    ours.close()


def test_a_project_that_comes_back_is_well_again(rig: Rig) -> None:
    ours = Database(rig.url, Secret(rig.secret_key))

    for outage in (read_only, stopped):
        with outage(rig):
            assert eventually(lambda: reason(ours), 10)
        assert eventually(lambda: reason(ours) is None, 20)
    ours.close()


def test_the_database_itself_says_whether_it_takes_writes(rig: Rig) -> None:
    asked = b"select public.x402_ready()::json ->> 'writable' as writable"

    assert rig.sql(asked.decode()) == [{"writable": "true"}]
    with psycopg.connect(rig.postgres.url(rig.database)) as connection:
        connection.read_only = True
        assert connection.execute(asked).fetchone() == ("false",)
