"""Running a tile, and reading what comes of it as it is written."""

from collections.abc import Mapping
from typing import Any

import click

from x402jobs.cli.ending import Exit, explain, follow, lines
from x402jobs.cli.options import TEXT_OR_FILE, text_or_file
from x402jobs.cli.place import coords_argument, whole
from x402jobs.cli.shop import Shop, shop_options
from x402jobs.cli.terminal import plain

DOOR = "/api/stream/execute-task"


@click.group()
def task() -> None:
    """Your tasks: tiles that Claude does."""


@task.command()
@coords_argument
@click.option(
    "--instruction",
    metavar=TEXT_OR_FILE,
    callback=text_or_file,
    help="What to mind this time; it is stored nowhere. @- is standard input.",
)
@click.option("--model")
@click.option("--temperature", metavar="0..2")
@click.option("--max-tokens", "maxTokens", metavar="N", type=int)
@click.option("--rerun", is_flag=True, help="Also when no step of its plan is pending.")
@click.option("--prompt", "tells_prompt", is_flag=True, help="Show what Claude was asked, too.")
@shop_options
@click.pass_context
def run(
    context: click.Context,
    /,
    shop: Shop,
    written: str,
    rerun: bool,
    tells_prompt: bool,
    **wishes: Any,
) -> None:
    """Run the tile at COORDS - such as 0:1,2 on your own map - and print the answer as it arrives.

    A tile without subtasks is done as often as it is run. One with subtasks does the next pending
    step of its plan, which its first run makes: x402jobs tile show COORDS,0

    The answer goes to standard output: as text on a terminal, else as one line of JSON for each
    event, exactly as received. Everything else, the prompt on a terminal included, goes to
    standard error. Claude is asked with your own key, or the shop's where it shares one. Ctrl-C
    hangs up, and ends the run.

    \b
    Exit codes:
      0  the whole answer has arrived
      1  the task has failed, or something unexpected; no connection
      2  wrong usage: nothing was sent
      4  the request was refused
      5  not now; the same command may succeed later
    130  interrupted
    """
    asked = {name: value for name, value in wishes.items() if value is not None}
    asked["taskCoords"] = whole(shop, written)
    query = {"rerun": "true"} if rerun else {}
    if tells_prompt:
        query["events"] = "prompt"
    show = _words if shop.shows_words else lines
    with shop.stream(DOOR, asked, query) as reply:
        ending = follow(reply, show)
        if show is _words:
            click.echo()
    context.exit(_judge(ending, reply.headers.get("X-Request-Id")))


def _words(_: str, event: Mapping[str, Any]) -> None:
    """For people: the answer's text. The prompt is no part of it."""
    if event.get("type") == "text_delta":
        click.echo(plain(str(event.get("text"))), nl=False)
    elif event.get("type") == "prompt_generated":
        click.echo(f"{plain(str(event.get('prompt')))}\n", err=True)


def _judge(ending: Mapping[str, Any], request_id: str | None) -> Exit:
    if ending.get("type") == "done":
        for name, value in (
            ("tokens", ending.get("totalTokens")),
            ("duration", f"{ending.get('durationMs')} ms"),
            ("execution", ending.get("executionId")),
        ):
            click.echo(plain(f"{name:13}{value}"), err=True)
        return Exit.DONE
    explain(
        str(ending.get("message") or "The connection broke before the answer's end."),
        ending.get("code"),
        ending.get("executionId") or request_id,
    )
    return Exit.LATER if ending.get("recoverable") else Exit.FAILED
