"""What lies beneath a shop: its store as the machine room sees it, past the product.

SQL is written with %s for its values, whichever database it is for.
"""

import itertools
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from tests.supabase.postgres import Postgres
from tests.supabase.rig import Rig, project
from x402jobs.settings import Settings
from x402jobs.stores import local_tokens

_numbers = itertools.count(1)


class Beneath(Protocol):
    """One store, and who signs the tokens that its shop takes."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What the product is told of it."""
        ...

    def told(self, settings: Settings) -> Settings:
        """Settings that lead to it."""
        ...

    def token(self, user_id: str) -> str:
        """A good bearer token of this account's."""
        ...

    def as_user(self, name: str, user_id: str) -> Mapping[str, str]:
        """What makes the command speak for this account."""
        ...

    def sql(self, text: str, *values: object) -> list[dict[str, Any]]:
        """Ask, or change, the database."""
        ...

    def damage(self, text: str, *values: object) -> None:
        """Change the ledger's rows past every check of theirs."""
        ...

    def tables(self) -> dict[str, bytes]:
        """Everything in it, by table, where that is not a file in the data directory."""
        ...


@dataclass(frozen=True)
class Embedded:
    """The SQLite file of a data directory."""

    data: Path

    @property
    def environment(self) -> Mapping[str, str]:
        return {}

    def told(self, settings: Settings) -> Settings:
        return settings

    def token(self, user_id: str) -> str:
        return local_tokens(replace(Settings(), data=self.data)).issue(user_id)

    def as_user(self, name: str, user_id: str) -> Mapping[str, str]:
        return {"X402JOBS_DATA": str(self.data), "X402JOBS_AS": name}

    def sql(self, text: str, *values: object) -> list[dict[str, Any]]:
        with closing(self._connect()) as connection, connection:
            found = connection.execute(text.replace("%s", "?"), values)
            return [dict(row) for row in found]

    def damage(self, text: str, *values: object) -> None:
        with closing(self._connect()) as connection, connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute(text.replace("%s", "?"), values)

    def tables(self) -> dict[str, bytes]:
        return {}

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.data / "x402jobs.sqlite3", timeout=30)
        connection.row_factory = sqlite3.Row
        return connection


@dataclass(frozen=True)
class Project:
    """A Supabase project of this shop's alone."""

    rig: Rig

    @property
    def environment(self) -> Mapping[str, str]:
        return self.rig.environment

    def told(self, settings: Settings) -> Settings:
        url, key = self.rig.url, self.rig.secret_key
        return replace(settings, supabase_url=url, supabase_secret_key=key)

    def token(self, user_id: str) -> str:
        return self.rig.token(user_id)

    def as_user(self, name: str, user_id: str) -> Mapping[str, str]:
        return {"X402JOBS_TOKEN": self.token(user_id)}

    def sql(self, text: str, *values: object) -> list[dict[str, Any]]:
        return self.rig.sql(text, *values)

    def damage(self, text: str, *values: object) -> None:
        checks = """select conname from pg_constraint
            where conrelid = 'x402_executions'::regclass and contype = 'c'"""
        for each in self.sql(checks):
            self.sql(f'alter table x402_executions drop constraint "{each["conname"]}"')
        self.sql(text, *values)

    def tables(self) -> dict[str, bytes]:
        names = self.sql("select tablename from pg_tables where schemaname = 'public'")
        return {
            name: "\n".join(
                json.dumps(row["row"], ensure_ascii=False)
                for row in self.sql(f"select to_jsonb(t) as row from {name} t")
            ).encode()
            for name in (each["tablename"] for each in names)
        }


@contextmanager
def beneath(data: Path, postgres: Postgres | None) -> Iterator[Beneath]:
    """A project of this server's, made for one shop; without a server the embedded store."""
    if postgres is None:
        yield Embedded(data)
        return
    with project(postgres, f"shop_{next(_numbers)}") as rig:
        yield Project(rig)
