"""Tiles from the command line: what a task is made of, over the doors of a running shop."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from x402jobs.cli.options import TEXT_OR_FILE, text_or_file
from x402jobs.cli.place import COORDS, coords_argument, has_account, place, whole
from x402jobs.cli.shop import EXIT_CODES, Shop, shop_options, sure, yes_option
from x402jobs.cli.table import columns, pairs
from x402jobs.cli.template import say_rest
from x402jobs.cli.terminal import plain

Ended = TypeVar("Ended")

DOOR = "/api/tiles"
LISTED, SHOWN = "tiles", "coords"
"""What the door's replies are known by."""


@click.group(epilog=EXIT_CODES)
def tile() -> None:
    """Your tiles: what tasks are made of.

    \b
    COORDS say where a tile is, step by step down from the root of your map:
      0        the root
      0:1      the tile in direction 1 below it
      0:1,2    the second subtask of 0:1; subtasks are 1 to 6
      0:1,-1   the first tile of context for 0:1; context is -1 to -6
      0:1,0    the plan of 0:1, which running it has made
    Somebody else's map is named in front: ACCOUNT,0:1,2.

    To run one: x402jobs task run COORDS

    On a terminal these commands print tables; on a pipe, or with --json, what the shop replied, as
    one JSON document.
    """


def fields(command: Callable[..., Ended]) -> Callable[..., Ended]:
    """What is written on a tile, besides its title."""
    for option in reversed(
        (
            click.option(
                "--content",
                metavar=TEXT_OR_FILE,
                callback=text_or_file,
                help="What is to be done, or known. @- is standard input.",
            ),
            click.option(
                "--preview",
                metavar="TEXT",
                help="The content in a few words, for the tasks around it.",
            ),
            click.option(
                "--public/--private",
                "is_public",
                default=None,
                help="Public ones others may read and run, below public ones.",
            ),
        )
    ):
        command = option(command)
    return command


def _document(title: str | None, is_public: bool | None, **texts: str | None) -> dict[str, str]:
    """What to send: whatever was given."""
    given = {"title": title, **texts}
    if is_public is not None:
        given["visibility"] = "public" if is_public else "private"
    return {name: value for name, value in given.items() if value is not None}


@tile.command()
@coords_argument
@click.option("--title", required=True, help="What it is, in one line.")
@fields
@shop_options
def add(shop: Shop, written: str, **flags: Any) -> None:
    """Put a new tile under one that is there. It is private unless --public says otherwise."""
    document = _document(**flags)
    document["coords"] = whole(shop, written)
    shop.show(shop.ask("POST", DOOR, SHOWN, document), _words)


@tile.command()
@coords_argument
@click.option("--title", help="What it is, in one line.")
@fields
@shop_options
def edit(shop: Shop, written: str, **flags: Any) -> None:
    """Change what the flags say; the rest stays. A plan that it has stays too: `tile rm` that."""
    changes = _document(**flags)
    if not changes:
        raise click.UsageError("Say what to change: --title, --content, --preview, --public.")
    shop.show(shop.ask("PATCH", f"{DOOR}/{whole(shop, written)}", SHOWN, changes), _words)


@tile.command()
@coords_argument
@shop_options
def show(shop: Shop, written: str) -> None:
    """Show one tile, or with a last step of 0 the plan of one."""
    shop.show(shop.ask("GET", f"{DOOR}/{whole(shop, written)}", SHOWN), _words)


@tile.command(name="list")
@click.option(
    "--under", "written", metavar=COORDS, callback=place, help="Only what is below this tile."
)
@click.option("--limit", metavar="N", type=int, help="At most so many.  [default: 25]")
@click.option("--offset", metavar="N", type=int, help="Leave out the first N.")
@shop_options
def list_(shop: Shop, written: str | None, limit: int | None, offset: int | None) -> None:
    """List your tiles and their plans, each tree from its root on."""
    is_own = written is None or not has_account(written)

    def words(page: Mapping[str, Any]) -> None:
        columns(
            ("coords", "visibility", "updated", "title"),
            [
                (
                    each["coords"].partition(",")[2] if is_own else each["coords"],
                    each["visibility"],
                    each["updatedAt"],
                    each["title"],
                )
                for each in page["tiles"]
            ],
        )
        say_rest(page)

    under = None if written is None else whole(shop, written)
    query = {"under": under, "limit": limit, "offset": offset}
    shop.show(shop.ask("GET", DOOR, LISTED, query=query), words)


@tile.command()
@coords_argument
@yes_option
@shop_options
def rm(shop: Shop, written: str, yes: bool) -> None:
    """Remove a tile and all below it; a plan, to have the next run make it anew."""
    sure(f"Remove {written} and all below it for good?", yes)
    shop.delete(f"{DOOR}/{whole(shop, written)}")
    click.echo(f"{written} has been removed, and what was below it.", err=True)


def _words(said: Mapping[str, Any]) -> None:
    pairs(
        [
            ("title", said["title"]),
            ("coords", said["coords"]),
            ("preview", said["preview"]),
            ("visibility", said["visibility"]),
            ("created", said["createdAt"]),
            ("updated", said["updatedAt"]),
        ]
    )
    if said["content"]:
        click.echo(f"\n{plain(str(said['content']))}")
