"""Who the creator is to a shop."""

from collections.abc import Mapping
from typing import Any

import click

from x402jobs.cli.shop import EXIT_CODES, Shop, ShownAlone, shop_options
from x402jobs.cli.table import pairs


@click.group(cls=ShownAlone, epilog=EXIT_CODES)
def profile() -> None:
    """Your account: its id, and the username in your templates' URLs. Alone: show."""


@profile.command()
@shop_options
def show(shop: Shop) -> None:
    """Show the account that your token speaks for."""
    shop.show(shop.ask("GET", "/auth/me", "username"), _words)


@profile.command(name="set")
@click.argument("username")
@shop_options
def set_(shop: Shop, username: str) -> None:
    """Choose your username. It is chosen once: URLs are made of it."""
    shop.show(shop.ask("PUT", "/user/profile", "username", {"username": username}), _words)


def _words(said: Mapping[str, Any]) -> None:
    pairs([("id", said["id"]), ("username", said["username"] or "none yet")])
