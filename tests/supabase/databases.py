"""Databases of a test's own, beside the shop's."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.supabase.postgres import Postgres

numbers = itertools.count(1)


@dataclass(frozen=True)
class Database:
    """One of a server's; `url` has its superuser."""

    server: Postgres
    name: str

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def sql(self, text: str, *values: object) -> list[dict[str, Any]]:
        return self.server.sql(self.name, text, *values)

    @contextmanager
    def seen_by(self, role: str, user: str | None = None) -> Iterator[psycopg.Connection]:
        """A session as PostgREST opens one for a caller; nothing of it stays."""
        with psycopg.connect(self.url) as connection:
            claims = json.dumps({"role": role, "sub": user})
            connection.execute("select set_config('request.jwt.claims', %s, false)", (claims,))
            connection.execute(f"set role {role}")
            yield connection
            connection.rollback()


def fresh(server: Postgres) -> Database:
    """An empty one, with nothing of Supabase's."""
    database = Database(server, f"fresh_{next(numbers)}")
    server.sql("postgres", f"create database {database.name}")
    return database
