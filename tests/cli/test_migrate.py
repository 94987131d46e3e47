"""One command gives a Postgres what it lacks, and says what was in the way."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import psycopg
import pytest

from tests.cli.conftest import ROOT, Command
from tests.supabase.postgres import Postgres, postgres
from tests.supabase.rig import AS_SUPABASE
from tests.tools import without
from tests.waiting import eventually, free_port
from x402jobs.adapters import migrations
from x402jobs.adapters.migrations import CannotMigrate, migrate

NAMES = [path.stem for path in sorted((ROOT / "migrations").glob("*.sql"))]
BOOKS = "select version, name, statements from supabase_migrations.schema_migrations order by 1"
PASSWORD = "planted p@ss/w:rd?#%"
LOCKED = f"select pg_advisory_lock({migrations.LOCK})"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A PostgreSQL of these tests' own, with a few people of their own."""
    with postgres() as running:
        running.sql("postgres", AS_SUPABASE)
        for role in ("ordinary", "stranger", "locked"):
            running.sql("postgres", f"create role {role} login password '{PASSWORD}'")
        # The others are let in without a password.
        (where,) = running.sql("postgres", "select current_setting('hba_file') as file")
        rules = Path(where["file"])
        rules.write_text(f"host all locked 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        running.sql("postgres", "select pg_reload_conf()")
        yield running


@dataclass
class Database:
    """An empty database; `url` has its superuser."""

    server: Postgres
    name: str

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def url_of(self, user: str) -> str:
        return self.url.replace("postgres@", f"{user}:{quote(PASSWORD, safe='')}@")

    def sql(self, text: str, *values: object) -> list[dict[str, object]]:
        return self.server.sql(self.name, text, *values)

    def tables(self) -> set[object]:
        """Every table that is nobody else's."""
        found = self.sql("""
            select format('%I.%I', schemaname, tablename) as name from pg_tables
            where schemaname not in ('pg_catalog', 'information_schema')""")
        return {row["name"] for row in found}

    def versions(self) -> list[object]:
        return [row["version"] for row in self.sql(BOOKS)]


names = itertools.count(1)


@pytest.fixture
def database(server: Postgres) -> Database:
    database = Database(server, f"migrated_{next(names)}")
    server.sql("postgres", f"create database {database.name}")
    return database


def lines(standing: str) -> str:
    return "".join(f"{name}: {standing}\n" for name in NAMES)


def test_an_empty_database_is_given_everything_and_a_second_run_finds_nothing_to_do(
    x402jobs: Command, database: Database
) -> None:
    first, second = (x402jobs("migrate", database.url) for _ in range(2))

    assert (first.returncode, first.stdout, first.stderr) == (0, lines("applied"), "")
    assert (second.returncode, second.stdout) == (0, lines("is there") + "nothing to do\n")
    assert {"public.profiles", "public.x402_executions", "public.tiles"} <= database.tables()


def test_what_was_applied_is_in_the_supabase_clis_own_books(
    x402jobs: Command, database: Database
) -> None:
    x402jobs("migrate", database.url)

    booked = database.sql(BOOKS)
    assert [f"{row['version']}_{row['name']}" for row in booked] == NAMES
    for row, name in zip(booked, NAMES, strict=True):
        (statement,) = row["statements"]  # type: ignore[misc]
        assert f"{statement};\n" == (ROOT / "migrations" / f"{name}.sql").read_text()


def test_a_dry_run_tells_what_it_would_do_and_changes_nothing(
    x402jobs: Command, database: Database
) -> None:
    told = x402jobs("migrate", "--dry-run", database.url)

    assert (told.returncode, told.stdout, told.stderr) == (0, lines("would be applied"), "")
    assert database.tables() == set()
    x402jobs("migrate", database.url)
    again = x402jobs("migrate", "--dry-run", database.url)
    assert again.stdout == lines("is there") + "nothing to do\n"


def test_the_url_may_be_in_the_environment_where_nobody_else_reads_it(
    x402jobs: Command, database: Database
) -> None:
    told = x402jobs("migrate", DATABASE_URL=database.url)

    assert (told.returncode, told.stdout) == (0, lines("applied"))


def test_without_a_url_it_is_wrong_usage(
    x402jobs: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)

    told = x402jobs("migrate")

    assert told.returncode == 2
    assert "Set the variable DATABASE_URL" in told.stderr


def test_a_database_that_was_migrated_by_hand_is_entered_in_the_books(
    x402jobs: Command, database: Database
) -> None:
    """In the SQL editor, or with psql -f: every file may be applied again."""
    for name in NAMES:
        database.sql((ROOT / "migrations" / f"{name}.sql").read_text())

    told = x402jobs("migrate", database.url)

    assert (told.returncode, told.stdout, told.stderr) == (0, lines("applied"), "")
    assert len(database.versions()) == len(NAMES)


def test_what_the_supabase_cli_has_pushed_is_not_applied_again(
    x402jobs: Command, database: Database
) -> None:
    """Its books as older releases made them, with a migration of the project's own in between."""
    database.sql((ROOT / "migrations" / f"{NAMES[0]}.sql").read_text())
    database.sql("create schema supabase_migrations")
    database.sql("create table supabase_migrations.schema_migrations (version text primary key)")
    for version in (NAMES[0][:14], "20261121000001", "20250101000000"):
        database.sql(
            "insert into supabase_migrations.schema_migrations values (%s) on conflict do nothing",
            version,
        )

    told = x402jobs("migrate", database.url)

    first, *others = told.stdout.splitlines()
    assert (told.returncode, first) == (0, f"{NAMES[0]}: is there")
    assert others == [f"{name}: applied" for name in NAMES[1:]]
    assert database.versions() == ["20250101000000", *(name[:14] for name in NAMES)]


def test_two_at_once_take_turns(database: Database) -> None:
    told: list[str] = []

    def run() -> None:
        migrate(database.url, lambda each, standing: told.append(f"{each}: {standing}"))

    threads = [Thread(target=run) for _ in range(2)]
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(LOCKED)
        for thread in threads:
            thread.start()
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        assert eventually(lambda: database.sql(waiting) == [{"count": 2}], 20)
    for thread in threads:
        thread.join()

    expected = [f"{name}: {standing}" for name in NAMES for standing in ("applied", "present")]
    assert sorted(told) == sorted(expected)


def test_postgrest_is_told_to_look_again(database: Database) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("listen pgrst")

        migrate(database.url)

        heard = next(connection.notifies(timeout=20, stop_after=1))
    assert (heard.channel, heard.payload) == ("pgrst", "reload schema")


def test_nothing_is_prepared_which_a_pooler_of_transactions_would_lose(database: Database) -> None:
    (found,) = database.sql("select current_setting('data_directory') as directory")
    log = Path(str(found["directory"])).parent / "log"
    before = len(log.read_bytes())

    migrate(f"{database.url}?options=-c%20log_statement%3Dall")

    said = log.read_bytes()[before:].decode()
    assert "insert into supabase_migrations.schema_migrations" in said
    assert "execute <unnamed>" in said and "execute _pg3_" not in said


def test_whoever_owns_the_database_need_not_be_its_superuser(
    x402jobs: Command, database: Database
) -> None:
    """As on Supabase, where the roles are there and nobody but Supabase is a superuser."""
    database.sql(f"alter database {database.name} owner to ordinary")

    told = x402jobs("migrate", database.url_of("ordinary"))

    assert (told.returncode, told.stdout, told.stderr) == (0, lines("applied"), "")


# What is in the way


def refused(x402jobs: Command, url: str) -> str:
    """The one sentence, which has no password in it."""
    told = x402jobs("migrate", url)
    heard = told.stdout + told.stderr
    assert told.returncode == 1, heard
    assert [piece for piece in ("planted", "p@ss", "w:rd") if piece in heard] == []
    (sentence,) = told.stderr.splitlines()
    return sentence.removeprefix("x402jobs: ")


def test_a_wrong_password_is_told_and_not_said(x402jobs: Command, database: Database) -> None:
    assert x402jobs("migrate", "--dry-run", database.url_of("locked")).returncode == 0
    wrong = database.url.replace("postgres@", "locked:planted@")
    place = f"127.0.0.1:{database.server.port}"

    assert refused(x402jobs, wrong) == f"the password is not locked's at {place}."
    none = refused(x402jobs, database.url.replace("postgres@", "locked@"))
    assert none == f"{place} asks for a password: postgresql://USER:PASSWORD@HOST/…"


@pytest.mark.parametrize(
    ("user", "host", "name", "says"),
    [
        ("postgres", "{place}", "nowhere", "there is no database nowhere at {place}."),
        ("nobody", "{place}", "postgres", "there is no user nobody at {place}."),
        ("postgres", "{shut}", "postgres", "nothing takes connections at {shut}."),
        ("postgres", "nowhere.invalid", "postgres", "there is no host nowhere.invalid."),
        (
            "postgres",
            "db.nowhere.supabase.co",
            "postgres",
            "there is no host db.nowhere.supabase.co. A Supabase project's own host has an IPv6"
            " address alone: elsewhere the pooler's URL is the one to use (Connect, Session"
            " pooler).",
        ),
    ],
)  # fmt: skip
def test_a_place_that_is_not_there_is_named(
    x402jobs: Command, server: Postgres, user: str, host: str, name: str, says: str
) -> None:
    names = {"place": f"127.0.0.1:{server.port}", "shut": f"127.0.0.1:{free_port()}"}
    url = f"postgresql://{user}:planted@{host.format(**names)}/{name}"

    assert refused(x402jobs, url) == says.format(**names)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://postgres:planted@127.0.0.1/postgres",
        "host=127.0.0.1 password=planted",
        "postgresql://postgres:pl@planted@127.0.0.1/postgres",
        "postgresql://postgres:54/planted@127.0.0.1/postgres",
        "postgresql://postgres:pl/anted@planted/postgres",
        "postgresql://postgres:p/planted?w@127.0.0.1/postgres",
        "postgresql://postgres:%planted@127.0.0.1/postgres",
        "postgresql://postgres@127.0.0.1:planted/postgres",
        "postgresql://127.0.0.1/postgres?planted=1",
        "postgresql://127.0.0.1/postgres?connect_timeout=planted",
        "planted",
    ],
)
def test_what_is_no_url_is_not_repeated(x402jobs: Command, url: str) -> None:
    assert refused(x402jobs, url).startswith("DATABASE_URL is not postgresql://USER:PASSWORD@")


def test_tables_of_somebody_elses_are_named_with_their_owner(
    x402jobs: Command, database: Database
) -> None:
    migrate(database.url)
    database.sql("drop schema supabase_migrations cascade")
    database.sql("alter schema public owner to ordinary")
    database.sql(f"alter database {database.name} owner to ordinary")

    said = refused(x402jobs, database.url_of("ordinary"))

    assert said.startswith(f"{NAMES[0]}: ordinary does not own profiles of postgres, ")
    assert said.endswith("Connect as their owner.")


def test_a_user_who_may_not_make_the_roles_is_told_so(
    x402jobs: Command, database: Database
) -> None:
    database.sql(f"alter database {database.name} owner to ordinary")
    database.sql("alter role anon rename to anon_away")
    try:
        said = refused(x402jobs, database.url_of("ordinary"))
    finally:
        database.sql("alter role anon_away rename to anon")

    assert said == (
        f"{NAMES[0]}: the roles anon are missing, and ordinary may not make them."
        " Connect once as a superuser."
    )


def test_a_user_who_may_do_nothing_is_told_whom_to_connect_as(
    x402jobs: Command, database: Database
) -> None:
    said = refused(x402jobs, database.url_of("stranger"))

    assert said == (
        "the table of migrations: stranger may not do that. Connect as the database's owner"
        " (Supabase: postgres)."
    )


def test_a_database_that_takes_no_changes_is_told(x402jobs: Command, database: Database) -> None:
    database.sql(f"alter database {database.name} set default_transaction_read_only = on")

    assert "takes no changes" in refused(x402jobs, database.url)


def test_a_table_that_is_not_let_go_of_is_not_waited_for_for_ever(
    x402jobs: Command, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = migrations._BEGIN.replace("'10s'", "'50ms'")
    database.sql("create table public.profiles (id uuid primary key, username text unique)")
    with psycopg.connect(database.url) as connection:
        connection.execute("lock table public.profiles")
        monkeypatch.setattr(migrations, "_BEGIN", impatient)

        said = refused(x402jobs, database.url)

    assert impatient != migrations._BEGIN.replace("50ms", "10s")
    assert "somebody else holds a table of ours" in said
    assert database.versions() == []


def test_a_table_of_somebody_elses_is_left_alone(x402jobs: Command, database: Database) -> None:
    database.sql("create table public.tiles (z integer, x integer, y integer, png bytea)")

    said = refused(x402jobs, database.url)

    assert "there is a table public.tiles that is not ours" in said
    assert database.versions() == []
    (theirs,) = database.sql("select relrowsecurity from pg_class where relname = 'tiles'")
    assert theirs == {"relrowsecurity": False}


def test_a_migration_that_fails_leaves_those_before_it_and_nothing_of_its_own(
    x402jobs: Command, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, sql in (
        ("20260101000001_one", "create table public.one (secret text)"),
        ("20260101000002_two", "create table public.two (); alter table public.one "
         "add constraint one_empty check (secret = '')"),
        ("20260101000003_three", "create table public.three ()"),
    ):  # fmt: skip
        (tmp_path / f"{name}.sql").write_text(f"{sql};\n")
    monkeypatch.setattr(migrations, "DIRECTORY", tmp_path)
    database.sql("create table public.one (secret text)")
    database.sql("insert into public.one values ('planted')")

    first = refused(x402jobs, database.url)
    (tmp_path / "20260101000001_one.sql").write_text("select 1;\n")
    told = x402jobs("migrate", database.url)
    database.sql("delete from public.one")
    mended = x402jobs("migrate", database.url)

    assert first == "20260101000001_one does not fit this database (SQLSTATE 42P07)."
    assert (told.returncode, told.stdout) == (1, "20260101000001_one: applied\n")
    assert told.stderr.endswith(
        "_two does not fit this database (SQLSTATE 23514, one, one_empty).\n"
    )
    assert mended.stdout.splitlines() == [
        "20260101000001_one: is there",
        "20260101000002_two: applied",
        "20260101000003_three: applied",
    ]


def test_a_connection_that_breaks_is_told_and_nothing_is_half_done(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "20260101000001_cut.sql").write_text(
        "create table public.cut (); select pg_terminate_backend(pg_backend_pid());"
    )
    monkeypatch.setattr(migrations, "DIRECTORY", tmp_path)

    with pytest.raises(CannotMigrate, match="the connection was lost. Run it again"):
        migrate(database.url)

    assert "public.cut" not in database.tables()


# Where the migrations are


def test_no_migration_ends_the_transaction_it_is_applied_in() -> None:
    for name in NAMES:
        words = (ROOT / "migrations" / f"{name}.sql").read_text().lower()
        assert [each for each in ("commit;", "rollback;", "begin;") if f"\n{each}" in words] == []


def test_an_installed_package_brings_them(tmp_path: Path) -> None:
    """setuptools' own reading of setup.cfg; a wheel is what this leaves."""
    try:
        import setuptools  # noqa: F401
    except ImportError:
        without("setuptools", "setuptools is not in this environment")

    subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-c", "import setuptools; setuptools.setup()"),
            *("-q", "egg_info", "--egg-base", str(tmp_path)),
            *("build_py", "--build-lib", str(tmp_path / "lib")),
        ],
        cwd=ROOT,
        env=dict(os.environ),
        check=True,
        capture_output=True,
        timeout=120,
    )

    brought = tmp_path / "lib" / "x402jobs" / "migrations"
    assert sorted(path.stem for path in brought.iterdir()) == NAMES
    assert not any(path.is_symlink() for path in (brought, *brought.iterdir()))
