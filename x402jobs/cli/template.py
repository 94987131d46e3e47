"""A creator's templates, over the doors of a running shop."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from x402jobs.cli.ending import Exit
from x402jobs.cli.options import message_option, values_option, with_message
from x402jobs.cli.shop import EXIT_CODES, Shop, shop_options, sure, yes_option
from x402jobs.cli.table import columns, pairs
from x402jobs.cli.template_file import (
    parameter,
    parameters_of,
    read_template,
    read_text,
)
from x402jobs.cli.terminal import complain, plain

Ended = TypeVar("Ended")

DOOR = "/resources"
LISTED, SHOWN = "resources", "systemPrompt"
"""What the door's replies are known by."""
MOST_IN_A_PAGE = 100

id_argument = click.argument("which", metavar="SLUG|ID")


@click.group(epilog=EXIT_CODES)
def template() -> None:
    """Your templates: what you sell.

    \b
    A template's file is TOML, or YAML or JSON, with the names of the HTTP doors:
      name = "Haiku"
      priceUsdc = "0.01"
      systemPromptFile = "haiku.txt"   # beside the file; or systemPrompt = "…"
      description = "A haiku about a topic of your choice."
      maxTokens = 1024
    \b
      [[parameters]]
      name = "topic"
      description = "What the haiku is about."

    Also: slug, network, model, allowsUserMessage, isActive; a parameter may have required, default,
    maxLength, enum. In the prompt a parameter is written {topic}{/topic}.

    On a terminal these commands print tables; on a pipe, or with --json, what the shop replied, as
    one JSON document.
    """


def fields(command: Callable[..., Ended]) -> Callable[..., Ended]:
    """FILE, and the flags that come before what is in it."""
    for option in reversed(
        (
            click.argument("file", required=False),
            click.option("--name"),
            click.option("--slug", help="The last part of its URL; made from the name if absent."),
            click.option("--description"),
            click.option("--price", "priceUsdc", metavar="USDC", help='As in 0.01; "0" is free.'),
            click.option("--network", help="Where you prefer to be paid, such as base."),
            click.option("--prompt", "systemPrompt", metavar="TEXT"),
            click.option("--prompt-file", "prompt_file", metavar="FILE", help="The prompt's text."),
            click.option(
                "--parameter",
                "parameters",
                metavar="NAME[=DEFAULT]",
                multiple=True,
                callback=parameter,
                help="May be repeated; all of them together are the template's parameters.",
            ),
            click.option("--max-tokens", "maxTokens", metavar="N", type=int),
            click.option("--model"),
            click.option(
                "--user-message/--no-user-message",
                "allowsUserMessage",
                default=None,
                help="Whether callers may add a message to Claude.",
            ),
            click.option(
                "--pause/--resume",
                "is_paused",
                default=None,
                help="A paused template stays yours alone.",
            ),
        )
    ):
        command = option(command)
    return command


def _document(file: str | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """What to send: the file's fields, and the flags' instead where both say something."""
    document = read_template(file) if file else {}
    given = {name: value for name, value in flags.items() if value not in (None, [])}
    prompt_file = given.pop("prompt_file", None)
    if prompt_file is not None:
        if "systemPrompt" in given:
            raise click.UsageError("--prompt and --prompt-file are two prompts; keep one.")
        given["systemPrompt"] = read_text(Path(prompt_file))
    if "is_paused" in given:
        given["isActive"] = not given.pop("is_paused")
    document |= given
    if not document:
        raise click.UsageError("A FILE, or the flags that say what to write, please.")
    return document


@template.command()
@fields
@shop_options
def add(shop: Shop, file: str | None, **flags: Any) -> None:
    """Put a new template on the shelf, from FILE (- is TOML on standard input), flags, or both.

    Without parameters, one that is required is made of each tag in the prompt.
    """
    document = _document(file, flags)
    prompt = document.get("systemPrompt")
    if "parameters" not in document and isinstance(prompt, str):
        if parameters := parameters_of(prompt):
            document["parameters"] = parameters
            names = ", ".join(each["name"] for each in parameters)
            complain(f"parameters made of the prompt's tags, each required: {names}.")
    _show(shop, shop.ask("POST", DOOR, SHOWN, document))


@template.command()
@id_argument
@fields
@shop_options
def edit(shop: Shop, which: str, file: str | None, **flags: Any) -> None:
    """Change what FILE or the flags say; the rest stays.

    Whoever was quoted the price before is told it anew.
    """
    changes = _document(file, flags)
    _show(shop, shop.ask("PATCH", f"{DOOR}/{id_of(shop, which)}", SHOWN, changes))


@template.command()
@id_argument
@shop_options
def show(shop: Shop, which: str) -> None:
    """Show everything you wrote, the prompt included."""
    _show(shop, shop.ask("GET", f"{DOOR}/{id_of(shop, which)}", SHOWN))


@template.command(name="list")
@click.option("--limit", metavar="N", type=int, help="At most so many.  [default: 25]")
@click.option("--offset", metavar="N", type=int, help="Leave out the first N.")
@shop_options
def list_(shop: Shop, limit: int | None, offset: int | None) -> None:
    """List your templates, paused ones too, newest first."""

    def words(page: Mapping[str, Any]) -> None:
        columns(
            ("slug", "price", "state", "name", "url"),
            [
                (
                    each["slug"],
                    each["priceUsdc"],
                    "active" if each["isActive"] else "paused",
                    each["name"],
                    each["url"],
                )
                for each in page["resources"]
            ],
        )
        say_rest(page)

    shop.show(shop.ask("GET", DOOR, LISTED, query={"limit": limit, "offset": offset}), words)


@template.command()
@id_argument
@yes_option
@shop_options
def rm(shop: Shop, which: str, yes: bool) -> None:
    """Take a template away. What it sold stays in the books; its slug is free."""
    template_id = id_of(shop, which)
    sure(f"Take {plain(which)} off the shelf for good?", yes)
    shop.delete(f"{DOOR}/{template_id}")
    click.echo(f"{plain(which)} has been taken away; its slug is free.", err=True)


@template.command()
@id_argument
@values_option
@message_option
@shop_options
def preview(shop: Shop, which: str, values: dict[str, str], message: str | None) -> None:
    """Show what Claude would be asked for these values. Claude is not asked; nothing is charged."""

    def words(said: Mapping[str, Any]) -> None:
        click.echo(plain(str(said["systemPrompt"])))
        click.echo(f"\n{click.style('user message', dim=True)}")
        click.echo(plain(str(said["userMessage"])))
        about = f"about {said['estimatedTokens']} tokens; {said['priceUsdc']} USDC a call"
        click.echo(f"\n{plain(about)}")

    document = with_message(values, message)
    door = f"{DOOR}/{id_of(shop, which)}/preview"
    shop.show(shop.ask("POST", door, "userMessage", document), words)


def id_of(shop: Shop, which: str) -> str:
    """The id of the creator's template with this slug or id."""
    offset, has_more = 0, True
    while has_more:
        page = shop.ask("GET", DOOR, LISTED, query={"limit": MOST_IN_A_PAGE, "offset": offset})
        for each in page["resources"]:
            if which in (each["slug"], each["id"]):
                return str(each["id"])
        offset, has_more = offset + MOST_IN_A_PAGE, page["pagination"]["hasMore"]
    complain(f"none of your templates is {which}. To see them: x402jobs template list")
    raise click.exceptions.Exit(Exit.REFUSED)


def say_rest(page: Mapping[str, Any]) -> None:
    """Under a table: that there is more than it shows."""
    at = page["pagination"]
    end = at["offset"] + at["limit"]
    if at["hasMore"]:
        click.echo(f"{at['offset'] + 1} to {end} of {at['total']}; the next: --offset {end}")


def _show(shop: Shop, saved: dict[str, Any]) -> None:
    shop.show(saved, _words)
    for warning in saved["warnings"]:
        complain(str(warning))


def _words(saved: Mapping[str, Any]) -> None:
    pairs(
        [
            ("name", saved["name"]),
            ("url", saved["url"]),
            ("price", f"{saved['priceUsdc']} USDC on {saved['network']}"),
            ("description", saved["description"]),
            ("parameters", ", ".join(_in_words(each) for each in saved["parameters"])),
            ("user message", "accepted" if saved["allowsUserMessage"] else "not accepted"),
            ("model", f"{saved['model']}, at most {saved['maxTokens']} tokens"),
            ("state", "active" if saved["isActive"] else "paused"),
            ("created", saved["createdAt"]),
            ("updated", saved["updatedAt"]),
            ("id", saved["id"]),
        ]
    )
    click.echo(f"\n{plain(str(saved['systemPrompt']))}")


def _in_words(definition: Mapping[str, Any]) -> str:
    if definition.get("default"):
        return f"{definition['name']} ({definition['default']!r} if left out)"
    return f"{definition['name']}{' (optional)' if definition.get('required') is False else ''}"
