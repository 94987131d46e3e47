"""The store's functions asked on a connection of one's own, whose transaction stays open."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from x402jobs.adapters.supabase.database import Database
from x402jobs.domain.secret import Secret


class Direct(Database):
    """What PostgREST does with a question, without PostgREST, and without its commit."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__("", Secret(""))
        self.connection = connection

    def call(self, function: str, **arguments: Any) -> Any:
        named = [
            sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name))
            for name in arguments
        ]
        question = sql.SQL("select public.{}({})").format(
            sql.Identifier(function), sql.SQL(", ").join(named)
        )
        row = self.connection.execute(question, arguments).fetchone()
        return json.loads(row[0]) if row is not None and row[0] is not None else None

    def write(self, function: str, **arguments: Any) -> Any:
        return self.call(function, **arguments, again=False)


@contextmanager
def direct(url: str) -> Iterator[Direct]:
    """Nothing of it stays, unless its connection is told to commit."""
    with psycopg.connect(url) as connection:
        try:
            yield Direct(connection)
        finally:
            connection.rollback()
