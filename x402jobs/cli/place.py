"""Where a tile is, as a person writes it: the account may be left out of one's own map."""

import click

from x402jobs.cli.shop import Shop
from x402jobs.domain.coords import Coords
from x402jobs.domain.errors import InvalidRequest

COORDS = "COORDS"
SOMEBODY = "me"
"""Stands for whoever asks while the rest is looked at; their account's id is the shop's to tell."""


def place(_: click.Context, __: click.Parameter, written: str | None) -> str | None:
    """Coordinates by the grammar, with an account or without. Raises BadParameter."""
    if written is None:
        return None
    try:
        Coords.parse(written if has_account(written) else f"{SOMEBODY},{written}", "coordinates")
    except InvalidRequest as fault:
        raise click.BadParameter(
            f"{fault.message} On your own map leave the account out: 0 is its root, 0:1,2 below it."
        ) from None
    return written


coords_argument = click.argument("written", metavar=COORDS, callback=place)


def has_account(written: str) -> bool:
    """Whether the map is named; `0:1,2` has its first comma behind the group."""
    return "," in written.partition(":")[0]


def whole(shop: Shop, written: str) -> str:
    """The coordinates with their account, which is the one that asks where none is named."""
    if has_account(written):
        return written
    return f"{shop.ask('GET', '/auth/me', 'id')['id']},{written}"
