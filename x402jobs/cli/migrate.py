"""The tables and functions of the production store."""

import sys
from typing import TYPE_CHECKING

import click

from x402jobs.cli.terminal import complain

if TYPE_CHECKING:
    from x402jobs.adapters.migrations import Migration, Standing


@click.command()
@click.option("--dry-run", is_flag=True, help="Print what would be applied, and change nothing.")
@click.argument("url", metavar="DATABASE_URL", envvar="DATABASE_URL", required=False)
def migrate(url: str | None, dry_run: bool) -> None:
    """Give a Supabase project, or any Postgres, the tables and functions of this release.

    DATABASE_URL is postgresql://USER:PASSWORD@HOST:PORT/DATABASE: of a Supabase project, what
    its button Connect shows, direct or of a pooler. Rather than on the command line, where other
    people of this machine can read the password, put it into the variable DATABASE_URL.

    Each migration is one transaction, entered where the Supabase CLI enters its own. May be run
    at any time, also while the shop serves, and again after a failure.

    \b
    Exit codes:
      0  all is there
      1  it is not, and standard error says why
    """
    if not url:
        raise click.UsageError("Which database? Set the variable DATABASE_URL.")
    from x402jobs.adapters.migrations import CannotMigrate
    from x402jobs.adapters.migrations import migrate as apply

    standings: set[Standing] = set()

    def tell(migration: "Migration", standing: "Standing") -> None:
        standings.add(standing)
        click.echo(f"{migration}: {_WORDS[standing]}")

    try:
        apply(url, tell, complain, dry_run=dry_run)
    except CannotMigrate as error:
        complain(str(error))
        sys.exit(1)
    if standings == {"present"}:
        click.echo("nothing to do")


_WORDS: "dict[Standing, str]" = {
    "applied": "applied",
    "pending": "would be applied",
    "present": "is there",
}
