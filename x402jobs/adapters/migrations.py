"""The migrations, and how a Postgres gets them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

DIRECTORY = Path(__file__).parents[1] / "migrations"
CONNECT_SECONDS = 10
LOCK = 0x78343032
"""Whoever migrates holds this, so that two at once take turns."""

Standing = Literal["applied", "pending", "present"]

Row = Mapping[str, Any]

_BEGIN = f"""
    select pg_catalog.pg_advisory_xact_lock({LOCK});
    set local statement_timeout = 0;
    -- Nobody queues behind a table that somebody else will not let go of.
    set local lock_timeout = '10s'"""

# As the Supabase CLI makes it. What is there already is not touched, since it may be another's.
_BOOKS = """
    do $$
    declare
        wanted text;
    begin
        if to_regclass('supabase_migrations.schema_migrations') is null then
            if to_regnamespace('supabase_migrations') is null then
                create schema supabase_migrations;
            end if;
            create table supabase_migrations.schema_migrations (version text not null primary key);
        end if;
        foreach wanted in array array['statements text[]', 'name text'] loop
            if not exists (
                select from pg_catalog.pg_attribute
                where attrelid = 'supabase_migrations.schema_migrations'::regclass
                    and attname = split_part(wanted, ' ', 1) and not attisdropped
            ) then
                execute 'alter table supabase_migrations.schema_migrations add column '
                    || 'if not exists ' || wanted;
            end if;
        end loop;
    end $$"""

_HAS_BOOKS = "select to_regclass('supabase_migrations.schema_migrations') is not null"
_VERSIONS = "select version from supabase_migrations.schema_migrations"
_NOTE = """
    insert into supabase_migrations.schema_migrations (version, statements, name)
    values (%s, %s, %s)"""

_OF_OTHERS = r"""
    select string_agg(format('%s of %s', name, owner), ', ' order by name) from (
        select relname as name, pg_get_userbyid(relowner) as owner from pg_catalog.pg_class
        where relnamespace = to_regnamespace('public') and relkind in ('r', 'p', 'v')
            and (relname like 'x402\_%' or relname in ('profiles', 'tiles'))
            and not pg_has_role(relowner, 'usage')
        union all
        select proname, pg_get_userbyid(proowner) from pg_catalog.pg_proc
        where pronamespace = to_regnamespace('public') and proname like 'x402\_%'
            and not pg_has_role(proowner, 'usage')
    ) found"""
_ROLES_MISSING = """
    select string_agg(role, ', ' order by role)
    from unnest(array['anon', 'authenticated', 'service_role']) role
    where not exists (select from pg_catalog.pg_roles where rolname = role)"""

_REFUSALS = (
    ("password authentication failed", "the password is not {user}'s at {place}."),
    ("no password supplied", "{place} asks for a password: postgresql://USER:PASSWORD@HOST/…"),
    ("Tenant or user not found", "{place} knows no user {user}; a pooler's is postgres.PROJECT."),
    ("tenant/user", "{place} knows no user {user}; a pooler's is postgres.PROJECT."),
    ("database", "there is no database {database} at {place}.", "does not exist"),
    ("role", "there is no user {user} at {place}.", "does not exist"),
    ("no pg_hba.conf entry", "{place} lets {user} in from elsewhere, or over TLS, but not so."),
    ("resolve host", "there is no host {host}."),
    ("too many", "{place} has no connection left; try again.", "connection"),
    ("connection slots", "{place} has no connection left; try again."),
    ("starting up", "the database at {place} is starting; try again."),
    ("shutting down", "the database at {place} is shutting down."),
    ("refused", "nothing takes connections at {place}."),
    ("timeout", "{place} did not answer in time."),
)
"""What libpq says, who gives no code, and what is said for it: neither may quote the password."""

_ONE_ADDRESS = (
    " A Supabase project's own host has an IPv6 address alone: elsewhere the pooler's URL is the"
    " one to use (Connect, Session pooler)."
)


class CannotMigrate(Exception):
    """What was in the way, in a sentence without a password. What was applied before stays."""


@dataclass(frozen=True)
class Migration:
    """One file, applied whole or not at all."""

    version: str
    name: str
    sql: str

    def __str__(self) -> str:
        return f"{self.version}_{self.name}"


def migrations() -> list[Migration]:
    """Those of this release, in their order."""
    found = []
    for path in sorted(DIRECTORY.glob("*.sql")):
        version, _, name = path.stem.partition("_")
        found.append(Migration(version, name, path.read_text("utf-8")))
    return found


def migrate(
    url: str,
    tell: Callable[[Migration, Standing], None] = lambda _, __: None,
    warn: Callable[[str], None] = lambda _: None,
    *,
    dry_run: bool = False,
) -> None:
    """Give the database what it lacks, each file in one transaction with its row in the books.

    The books are the Supabase CLI's, so that `supabase db push` finds the same done and left to
    do. A dry run changes nothing. `warn` hears what a migration leaves for a person to do. Raises
    CannotMigrate.
    """
    with _connected(url) as connection:
        connection.add_notice_handler(lambda said: _pass_on(said, warn))
        with _explained(connection, "the table of migrations"):
            done = _done(connection)
        if dry_run:
            for each in migrations():
                tell(each, "present" if each.version in done else "pending")
            return
        with _explained(connection, "the table of migrations"), connection.transaction():
            connection.execute(_BEGIN)
            connection.execute(_BOOKS)
        for each in migrations():
            new = each.version not in done and _apply(connection, each)
            tell(each, "applied" if new else "present")
        with _explained(connection, "the notice to PostgREST"):
            connection.execute("notify pgrst, 'reload schema'")


def _done(connection: psycopg.Connection) -> frozenset[str]:
    if connection.execute(_HAS_BOOKS).fetchone() == (False,):
        return frozenset()
    return frozenset(version for (version,) in connection.execute(_VERSIONS))


def _apply(connection: psycopg.Connection, migration: Migration) -> bool:
    """False when another has applied it since we looked."""
    with _explained(connection, str(migration)), connection.transaction():
        connection.execute(_BEGIN)
        if migration.version in _done(connection):
            return False
        connection.execute(migration.sql.encode())  # all its statements at once, none prepared
        # As one statement: `supabase migration fetch` puts the semicolon back.
        statement = migration.sql.rstrip().removesuffix(";")
        connection.execute(_NOTE, (migration.version, [statement], migration.name))
    return True


@contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection]:
    """A session that also a pooler of transactions can serve: no prepared statements."""
    told = _parts(url)
    try:
        connection = psycopg.connect(
            url,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=int(told.get("connect_timeout") or CONNECT_SECONDS),
            application_name="x402jobs migrate",
            client_encoding="utf8",
        )
    except psycopg.Error as error:
        raise CannotMigrate(_refusal(str(error), told)) from None
    with connection:
        yield connection


def _parts(url: str) -> dict[str, Any]:
    """What the URL says. A password with letters that end it early is never taken for a host."""
    try:
        told = conninfo_to_dict(url)
        if not url.startswith(("postgres://", "postgresql://")):
            raise ValueError
        if any("@" in str(told.get(part, "")) for part in ("user", "host", "port", "dbname")):
            raise ValueError
        for port in filter(None, str(told.get("port", "")).split(",")):
            int(port)
        int(told.get("connect_timeout") or 0)
    except (psycopg.Error, ValueError):
        raise CannotMigrate(
            "DATABASE_URL is not postgresql://USER:PASSWORD@HOST:PORT/DATABASE. In a password"
            " @ : / ? # and % are written as %40 %3A %2F %3F %23 and %25."
        ) from None
    return told


def _refusal(said: str, told: Row) -> str:
    host = told.get("host") or "this machine"
    names = {
        "user": told.get("user") or "this user",
        "host": host,
        "database": told.get("dbname") or told.get("user") or "of that name",
        "place": f"{host}:{told['port']}" if told.get("port") else host,
    }
    hint = _ONE_ADDRESS if str(host).endswith(".supabase.co") else ""
    for sign, sentence, *more in _REFUSALS:
        if all(word in said for word in (sign, *more)):
            return sentence.format(**names) + (hint if sign == "resolve host" else "")
    return "there is no connection to {place}.".format(**names) + hint


@contextmanager
def _explained(connection: psycopg.Connection, what: str) -> Iterator[None]:
    """Postgres's own words stay here: they can quote a row."""
    try:
        yield
    except errors.InsufficientPrivilege:
        raise CannotMigrate(_forbidden(connection, what)) from None
    except errors.LockNotAvailable:
        raise CannotMigrate(
            f"{what}: somebody else holds a table of ours. Nothing of it was applied; try again."
        ) from None
    except errors.ReadOnlySqlTransaction:
        raise CannotMigrate(
            f"{what}: this database takes no changes: it is a replica, or out of space."
        ) from None
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate.startswith(("57P", "08")):
            raise CannotMigrate(
                f"{what}: the connection was lost. Run it again: what is done stays done."
            ) from None
        if isinstance(error, errors.DuplicateTable) and error.diag.table_name == "tiles":
            raise CannotMigrate(
                f"{what}: there is a table public.tiles that is not ours, and it was left alone. "
                "Rename it, or use a project of its own."
            ) from None
        about = (error.diag.table_name, error.diag.constraint_name)
        names = ", ".join(name for name in (f"SQLSTATE {error.sqlstate}", *about) if name)
        raise CannotMigrate(f"{what} does not fit this database ({names}).") from None


def _forbidden(connection: psycopg.Connection, what: str) -> str:
    user = connection.info.user
    if others := _one(connection, _OF_OTHERS):
        return f"{what}: {user} does not own {others}. Connect as their owner."
    if roles := _one(connection, _ROLES_MISSING):
        return (
            f"{what}: the roles {roles} are missing, and {user} may not make them."
            " Connect once as a superuser."
        )
    return f"{what}: {user} may not do that. Connect as the database's owner (Supabase: postgres)."


def _one(connection: psycopg.Connection, question: str) -> str | None:
    row = connection.execute(question.encode()).fetchone()
    return row[0] if row else None


def _pass_on(said: psycopg.errors.Diagnostic, warn: Callable[[str], None]) -> None:
    if said.severity_nonlocalized == "WARNING" and said.message_primary:
        warn(said.message_primary)
