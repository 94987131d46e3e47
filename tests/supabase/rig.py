"""A Supabase project on this machine: a real PostgreSQL with our migrations, and PostgREST's doors.

The doors are `@supabase/lite`'s, which speaks PostgREST over that PostgreSQL: the real one is in no
package registry. What lite cannot do is said where a test meets it.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests.node_packages import newest_node, packages
from tests.supabase.postgres import Postgres, postgres
from tests.waiting import eventually, free_port

HERE = Path(__file__).parent
MIGRATIONS = HERE.parent.parent / "migrations"
START_SECONDS = 30

AS_SUPABASE = """
    create role anon nologin noinherit;
    create role authenticated nologin noinherit;
    create role service_role nologin noinherit bypassrls;
    grant usage on schema public to anon, authenticated, service_role;
    alter default privileges in schema public
        grant all on tables to anon, authenticated, service_role;
    alter default privileges in schema public
        grant all on functions to anon, authenticated, service_role;
    alter default privileges in schema public
        grant all on sequences to anon, authenticated, service_role;
"""
"""What a new project has before anybody's first migration."""

CONFIG = """
[api]
port = {port}

[db]
driver = "postgres"
url = "{url}"

[auth]
enabled = true
jwt_secret = "{jwt_secret}"
publishable_key = "{publishable_key}"
secret_key = "{secret_key}"
"""


@dataclass
class Rig:
    """A project that runs: what the product is told about it, and what is behind its doors."""

    url: str
    secret_key: str
    publishable_key: str
    postgres: Postgres
    database: str

    def sql(self, text: str, *values: object) -> list[dict[str, Any]]:
        """Ask, or change, the database behind the product's back."""
        return self.postgres.sql(self.database, text, *values)

    def empty(self) -> None:
        """Forget every row of ours, as between two tests."""
        self.sql("""
            do $$
            declare
                ours text;
            begin
                select string_agg(format('%I.%I', schemaname, tablename), ', ') into ours
                from pg_tables where schemaname = 'public';
                execute 'truncate ' || ours;
            end $$""")


def migrate(url: str) -> None:
    """Apply every migration, in order."""
    with psycopg.connect(url, autocommit=True) as connection:
        for each in sorted(MIGRATIONS.glob("*.sql")):
            connection.execute(each.read_text())  # type: ignore[call-overload]


@contextmanager
def project(server: Postgres, database: str = "shop") -> Iterator[Rig]:
    """A project over a fresh database of this server."""
    server.sql("postgres", f"create database {database}")
    server.sql(database, AS_SUPABASE)
    migrate(server.url(database))
    publishable_key = f"sb_publishable_{secrets.token_urlsafe(24)}"
    secret_key = f"sb_secret_{secrets.token_urlsafe(24)}"
    port = free_port()
    config = CONFIG.format(
        port=port,
        url=server.url(database),
        jwt_secret=secrets.token_urlsafe(48),
        publishable_key=publishable_key,
        secret_key=secret_key,
    )
    with _lite(config):
        url = f"http://127.0.0.1:{port}"
        if not eventually(lambda: _answers(url, publishable_key), START_SECONDS):
            raise AssertionError("@supabase/lite did not start")
        yield Rig(url, secret_key, publishable_key, server, database)


@contextmanager
def rig() -> Iterator[Rig]:
    """A PostgreSQL with one project; both end afterwards."""
    with postgres(free_port) as server, project(server) as running:
        yield running


@contextmanager
def _lite(config: str) -> Iterator[None]:
    """lite, in a directory of its own, telling nobody and elevating nobody."""
    modules, node = packages(HERE), newest_node()
    directory = Path(tempfile.mkdtemp(prefix="lite-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory)
        (directory / "supabase").mkdir()
        (directory / "supabase" / "config.toml").write_text(config)
        log = stack.enter_context((directory / "log").open("wb"))
        process = subprocess.Popen(
            [
                node,
                str(modules / "@supabase" / "lite" / "dist" / "cli" / "index.js"),
                *("--no-telemetry", "start", "--no-admin"),
            ],
            cwd=directory,
            env={**os.environ, "DO_NOT_TRACK": "1", "LITE_TELEMETRY": "0"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        yield


def _answers(url: str, key: str) -> bool:
    try:
        reply = httpx.get(f"{url}/rest/v1/", headers={"apikey": key}, trust_env=False, timeout=5)
        return reply.status_code < 500
    except httpx.TransportError:
        return False
