"""Who there is in the embedded store, and what addresses have in play money."""

import os
import re
from pathlib import Path

import click

from x402jobs.cli.options import data_option
from x402jobs.cli.terminal import complain
from x402jobs.domain.caller import USERNAME
from x402jobs.settings import Settings

ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


def _username(_: click.Context, __: click.Parameter, name: str) -> str:
    if USERNAME.fullmatch(name) is None:
        raise click.BadParameter("3 to 20 lower-case letters, digits and underscores, please.")
    return name


def _address(_: click.Context, __: click.Parameter, address: str) -> str:
    if ADDRESS.fullmatch(address) is None:
        raise click.BadParameter("0x and 40 hexadecimal digits, please.")
    return address


@click.group()
def user() -> None:
    """The users of the embedded store."""


@user.command()
@click.argument("name", callback=_username)
@data_option
def add(name: str, data: Path) -> None:
    """Add a user; one who is there already stays as they are."""
    from x402jobs import stores

    catalogue = stores.catalogue(embedded_settings(data))
    known = catalogue.user_id(name)
    user_id = catalogue.add_user(name)
    click.echo(f"{name} {'was there already' if known else 'has been added'}: {user_id}")


@click.command()
@click.argument("name", callback=_username)
@data_option
@click.pass_context
def token(context: click.Context, name: str, data: Path) -> None:
    """Print a bearer token that speaks for the user for a day."""
    issued = issue(name, data)
    if issued is None:
        complain(f"there is no user {name} in {data}. To add one: x402jobs user add {name}")
        context.exit(1)
    click.echo(issued)


def issue(name: str, data: Path) -> str | None:
    """A bearer token of the embedded store's own issuer; None when it does not know the user.

    Raises UsageError where accounts are a Supabase project's.
    """
    from x402jobs import stores

    settings = embedded_settings(data)
    user_id = stores.catalogue(settings).user_id(name)
    return None if user_id is None else stores.local_tokens(settings).issue(user_id)


def embedded_settings(data: Path) -> Settings:
    """The environment's, over this directory. Raises UsageError where accounts are Supabase's."""
    settings = Settings.from_env({**os.environ, "X402JOBS_DATA": str(data)})
    if not settings.is_embedded:
        raise click.UsageError(
            "SUPABASE_URL is set: accounts come from Supabase Auth, and nobody is added or signed "
            "for here. Sign in there, and set X402JOBS_TOKEN to the access token."
        )
    return settings


@click.command()
@click.argument("address", callback=_address)
@data_option
def balance(address: str, data: Path) -> None:
    """Print what the address has on the development ledger, in micro-USDC."""
    from x402jobs import wiring

    click.echo(wiring.development_ledger(data).balance(address))
