"""A Supabase project on this machine: a real PostgreSQL with our migrations, and PostgREST's doors.

The doors are `@supabase/lite`'s, which speaks PostgREST over that PostgreSQL: the real one is in no
package registry. What lite cannot do is said where a test meets it; and where it meets row level
security it grants every table to everybody, so that what is revoked is tested where lite has never
been.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from tests.node_packages import newest_node, packages
from tests.supabase.front import Front
from tests.supabase.postgres import Postgres, postgres
from tests.waiting import eventually, free_port
from x402jobs.adapters.migrations import migrate

HERE = Path(__file__).parent
START_SECONDS = 90
"""Where a machine is busy; where it is not, lite stands after two."""

AS_SUPABASE = """
    do $$
    begin
        if not exists (select from pg_roles where rolname = 'anon') then  -- the whole server has it
            create role anon nologin noinherit;
            create role authenticated nologin noinherit;
            create role service_role nologin noinherit bypassrls;
        end if;
    end $$;
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

    front: Front
    secret_key: str
    publishable_key: str
    postgres: Postgres
    database: str

    @property
    def url(self) -> str:
        return self.front.url

    @property
    def environment(self) -> dict[str, str]:
        """What the product is told."""
        return {"SUPABASE_URL": self.url, "SUPABASE_SECRET_KEY": self.secret_key}

    def token(self, user_id: str) -> str:
        """A good access token of this account's."""
        return self.front.accounts.token(user_id)

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


@contextmanager
def project(server: Postgres, database: str = "shop", before: str = "") -> Iterator[Rig]:
    """A project over a fresh database of this server, which had this in it before us."""
    server.sql("postgres", f"create database {database}")
    server.sql(database, AS_SUPABASE + before)
    migrate(server.url(database))
    keys = f"sb_publishable_{_random()}", f"sb_secret_{_random()}"
    with _lite(server.url(database), *keys) as port, closing(Front(port)) as front:
        publishable_key, secret_key = keys
        yield Rig(front, secret_key, publishable_key, server, database)


@contextmanager
def rig(programs: Path | None = None) -> Iterator[Rig]:
    """A PostgreSQL, of these programs, with one project; both end afterwards."""
    with postgres(programs) as server, project(server) as running:
        yield running


@contextmanager
def _lite(database: str, publishable_key: str, secret_key: str) -> Iterator[int]:
    """lite, in a directory of its own, telling nobody and elevating nobody; its port."""
    modules, node = packages(HERE), newest_node()
    program = str(modules / "@supabase" / "lite" / "dist" / "cli" / "index.js")
    directory = Path(tempfile.mkdtemp(prefix="lite-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory)
        (directory / "supabase").mkdir()
        log = stack.enter_context((directory / "log").open("wb"))
        for _ in range(3):  # somebody else may be faster to take the port
            port = free_port()
            config = CONFIG.format(
                port=port,
                url=database,
                jwt_secret=_random(),
                publishable_key=publishable_key,
                secret_key=secret_key,
            )
            (directory / "supabase" / "config.toml").write_text(config)
            command = [node, program, "--no-telemetry", "start", "--no-admin"]
            process = _begin(command, directory, log)
            if _started(process, port, secret_key):
                with _kept(process, partial(_begin, command, directory, log)):
                    yield port
                return
            _end(process)
        raise AssertionError(f"lite did not start:\n{(directory / 'log').read_text()}")


def _begin(command: list[str], directory: Path, log: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, "DO_NOT_TRACK": "1", "LITE_TELEMETRY": "0"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C is for us alone
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@contextmanager
def _kept(
    process: subprocess.Popen[bytes], begin: Callable[[], subprocess.Popen[bytes]]
) -> Iterator[None]:
    """Lets lite live: unlike PostgREST it may die of a database that goes away."""
    over = threading.Event()

    def keep() -> None:
        nonlocal process
        while not over.wait(0.1):
            if process.poll() is not None:
                process = begin()

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        _end(process)


def _started(process: subprocess.Popen[bytes], port: int, key: str) -> bool:
    eventually(lambda: process.poll() is not None or _answers(port, key), START_SECONDS)
    return process.poll() is None and _answers(port, key)


def _answers(port: int, key: str) -> bool:
    url = f"http://127.0.0.1:{port}/rest/v1/"
    try:
        reply = httpx.get(url, headers={"apikey": key}, trust_env=False, timeout=5)
        return reply.status_code == 200
    except httpx.TransportError:
        return False


def _random() -> str:
    return secrets.token_urlsafe(36)
