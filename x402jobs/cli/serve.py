"""Serving: gunicorn in the place of this process."""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from x402jobs.cli.options import data_option
from x402jobs.settings import Settings
from x402jobs.version import VERSION


@click.command()
@click.option(
    "--bind",
    metavar="HOST:PORT",
    envvar="X402JOBS_BIND",
    default=Settings().bind,
    show_default=True,
    show_envvar=True,
    help="Where to listen; unix:PATH is a socket file.",
)
@data_option
def serve(bind: str, data: Path) -> None:
    """Serve with gunicorn, configured by the environment (.env.example).

    The store is the Supabase project of SUPABASE_URL, else the file in the data directory.
    """
    from x402jobs import server

    if bind.startswith("unix:"):
        bind = f"unix:{Path(bind.removeprefix('unix:')).absolute()}"
    environment = {**os.environ, "X402JOBS_BIND": bind, "X402JOBS_DATA": str(data.absolute())}
    if not environment.get("PUBLIC_URL") and not bind.startswith("unix:"):
        environment["PUBLIC_URL"] = server.url_of(bind)
    settings = Settings.from_env(environment)
    command, checkout = server.command(), server.checkout()
    click.echo(
        f"x402jobs {VERSION}: {_store(settings, data)}, {_money(settings)}, {settings.public_url}",
        err=True,
    )
    sys.stderr.flush()
    os.chdir(checkout)
    os.execve(command[0], command, environment)


def _store(settings: Settings, data: Path) -> str:
    """Where everything rests, and how many of this machine's processes share it."""
    if settings.is_embedded:
        return f"embedded store {data}, one worker"
    workers = os.environ.get("WEB_CONCURRENCY") or "1"
    return f"Supabase {urlsplit(settings.supabase_url).netloc}, workers: {workers}"


def _money(settings: Settings) -> str:
    """What is taken, and through whom: the host alone, a facilitator's URL may end in a key."""
    if not settings.facilitator_url:
        return "development money (real signatures, play dollars)"
    names = ", ".join(
        f"play dollars on {network.id}"
        if network.development
        else f"USDC on {network.short_name or network.id}"
        for network in settings.networks
    )
    return f"{names} through {urlsplit(settings.facilitator_url).hostname}"
