"""The keys that secrets are sealed with, and those that trusted services sign in with."""

import json
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from x402jobs.cli.options import data_option, settings_at
from x402jobs.cli.terminal import complain

if TYPE_CHECKING:
    from x402jobs.services.rotation import Standing

SHOWN = 20
"""How many unreadable rows are named on a terminal; the JSON has them all."""

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.group()
def keys() -> None:
    """The keys that secrets are sealed with (docs/secrets.md).

    But for `internal`, which prints an API key for a trusted service.

    \b
    A new key, without a restart where the ring is the data directory's:
      x402jobs keys add
      x402jobs keys rotate
      x402jobs keys remove k1

    Run these where the server runs, with its environment: X402JOBS_KEYS,
    INTEGRATION_ENCRYPTION_SECRET, and SUPABASE_URL with SUPABASE_SECRET_KEY where the store is a
    Supabase project.

    \b
    status and rotate print a table on a terminal, else one JSON object:
      primary     the id of the key that seals
      ring        the ids of all keys, the primary one first
      columns     for each column of the store:
                    column   table.column
                    keys     how many values name which key id
                    origin   how many are as the origin service wrote
                             them: aes-256-cbc, plaintext
                    damaged  how many are neither
      old         how many values are not under the primary key
      unreadable  column and row of each value that does not open
      resealed    how many this run has sealed anew (rotate only)
    """


@keys.command()
@data_option
def status(data: Path) -> None:
    """Show which value is sealed with which key. Opens each, changes none."""
    from x402jobs import stores

    _show(stores.rotation(settings_at(data, keys=True)).standing())


@keys.command()
@click.option(
    "--batch",
    metavar="N",
    default=100,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="How many values are written in one transaction.",
)
@data_option
@click.pass_context
def rotate(context: click.Context, batch: int, data: Path) -> None:
    """Seal everything anew with the primary key, while the server runs.

    May be stopped at any moment and run again at any time.

    \b
    Exit codes:
      0  everything is under the primary key, and opens
      1  some values do not open, or are still under another key
    """
    from x402jobs import stores

    terminal = sys.stdout.isatty()

    def tell(seen: int, resealed: int) -> None:
        if terminal:
            click.echo(f"\r{seen} values seen, {resealed} sealed anew", nl=False)

    resealed, standing = stores.rotation(settings_at(data, keys=True)).rotate(batch, tell)
    if terminal:
        click.echo()
    _show(standing, resealed=resealed)
    if standing.waiting:
        complain(
            "something still seals with an old key. Restart whatever serves with an older ring, "
            "then run x402jobs keys rotate again."
        )
    context.exit(1 if standing.old or standing.unreadable else 0)


@keys.command()
@click.argument("key_id", metavar="[ID]", required=False)
@data_option
@click.pass_context
def add(context: click.Context, key_id: str | None, data: Path) -> None:
    """Make a fresh primary key; the others stay, for reading.

    The ring is the file `keys` in the data directory, and a running server follows it. Where
    X402JOBS_KEYS is set this changes nothing, and prints an entry for it on standard output.
    """
    from x402jobs import stores

    settings = settings_at(data, keys=True)
    try:
        if settings.keys:
            click.echo(stores.key_ring(settings).latest().fresh_entry(key_id))
            complain(
                "X402JOBS_KEYS is set, so nothing was changed. Add the entry above to it: last, "
                "and restart every server; then first, and restart them again; then run "
                "x402jobs keys rotate."
            )
            context.exit(1)
        added = stores.key_ring_file(settings).add(key_id)
    except ValueError as error:
        complain(f"{error}.")
        context.exit(1)
    click.echo(f"{added} is the primary key now. Next: x402jobs keys rotate")


@keys.command()
@click.argument("key_ids", metavar="ID...", nargs=-1, required=True)
@data_option
@click.pass_context
def remove(context: click.Context, key_ids: tuple[str, ...], data: Path) -> None:
    """Forget keys that no value is sealed with any more.

    Old backups of the store still need them: keep the ring of each, in another place.
    """
    from x402jobs import stores

    settings = settings_at(data, keys=True)
    if settings.keys:
        complain("X402JOBS_KEYS is set, so the ring is yours to change. Nothing was changed.")
        context.exit(1)
    ring = stores.key_ring_file(settings)
    standing = stores.rotation(settings).standing()
    for key_id in key_ids:
        if users := standing.users_of(key_id):
            where = ", ".join(f"{count} in {name}" for name, count in users.items())
            complain(f"{key_id} is in use: {where}. First: x402jobs keys rotate")
            context.exit(1)
    try:
        ring.remove(key_ids)
    except ValueError as error:
        complain(f"{error}.")
        context.exit(1)
    click.echo(f"{', '.join(key_ids)}: removed")


def _duration(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,4})([smhd])", text)
    if match is None:
        raise click.BadParameter("a number and s, m, h or d, please, such as 10m or 30d.")
    return int(match[1]) * SECONDS[match[2]]


@keys.command()
@click.argument("user")
@click.option("--purpose", metavar="P", required=True, help="What it is for: a-z, 0-9 and hyphens.")
@click.option(
    "--ttl",
    metavar="TIME",
    callback=_duration,
    help="How long a new key lives, such as 10m or 30d; without, until it is rotated.",
)
@click.option("--rotate", "anew", is_flag=True, help="Make a new one; the one there is ends.")
@data_option
@click.pass_context
def internal(
    context: click.Context, user: str, purpose: str, ttl: int | None, anew: bool, data: Path
) -> None:
    """Print the API key by which a trusted service speaks for the user.

    There is one for each purpose: the same is printed again until it is over, and an earlier one
    keeps the life it was given. The service sends it as x-api-key, and may name the user's id in
    x-user-id.
    """
    from x402jobs import stores

    settings = settings_at(data, keys=True)
    user_id = stores.catalogue(settings).user_id(user)
    if user_id is None:
        complain(
            f"there is no user {user} in {data}. To add one: x402jobs user add {user}"
            if settings.is_embedded
            else f"there is no user {user} in the project {settings.supabase_url}: accounts are "
            "made by signing up there, and have a name once their owner has chosen one."
        )
        context.exit(1)
    internal_keys = stores.internal_keys(settings)
    make = internal_keys.rotate if anew else internal_keys.get_or_create
    key, text = make(user_id, purpose, ttl)
    click.echo(text.reveal())
    if sys.stdout.isatty():
        until = "until it is rotated"
        if key.expires_at is not None:
            until = f"until {datetime.fromtimestamp(key.expires_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
        click.echo(f"Speaks for {user} ({user_id}), for {key.purpose}, {until}.", err=True)


def _show(standing: "Standing", **done: int) -> None:
    document = _document(standing) | done
    if not sys.stdout.isatty():
        click.echo(json.dumps(document))
        return
    primary, *others = standing.key_ids
    click.echo(f"key ring  {', '.join([f'{primary} (primary)', *others])}\n")
    rows = [("column", "kept under", "values"), *_rows(document)]
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    for column, form, values in rows:
        click.echo(f"{column:{widths[0]}}  {form:{widths[1]}}  {values:>{widths[2]}}")
    click.echo(f"\nnot under {primary}: {standing.old}")
    for name, row in standing.unreadable[:SHOWN]:
        complain(f"{name}, row {row}: does not open")
    if len(standing.unreadable) > SHOWN:
        complain(f"and {len(standing.unreadable) - SHOWN} more that do not open")


def _document(standing: "Standing") -> dict[str, Any]:
    columns = [
        {
            "column": name,
            "keys": {form.key_id: n for form, n in forms.items() if form.key_id},
            "origin": {form.origin: n for form, n in forms.items() if form.origin},
            "damaged": sum(n for form, n in forms.items() if not (form.key_id or form.origin)),
        }
        for name, forms in standing.forms.items()
    ]
    unreadable = [{"column": name, "row": row} for name, row in standing.unreadable]
    return {
        "primary": standing.key_ids[0],
        "ring": list(standing.key_ids),
        "columns": columns,
        "old": standing.old,
        "unreadable": unreadable,
    }


def _rows(document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for each in document["columns"]:
        kept = [
            (key_id if key_id in document["ring"] else f"{key_id} (not in the ring)", count)
            for key_id, count in sorted(each["keys"].items())
        ]
        kept += sorted(each["origin"].items())
        kept += [("damaged", each["damaged"])] if each["damaged"] else []
        rows += [(each["column"], form, str(count)) for form, count in kept or [("-", 0)]]
    return rows
