"""Options that several commands share."""

import os
import sys
from pathlib import Path

import click

from x402jobs.cli.template_file import STDIN, read_text
from x402jobs.cli.terminal import complain
from x402jobs.settings import Settings


def _values(_: click.Context, __: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE.")
        if name in values:
            raise click.BadParameter(f"{name} was given twice.")
        values[name] = value
    return values


values_option = click.option(
    "-p",
    "--parameter",
    "values",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_values,
    help="A parameter of the template; may be repeated.",
)

message_option = click.option(
    "--message", help="A message to Claude, where the template takes one."
)


def with_message(values: dict[str, str], message: str | None) -> dict[str, str]:
    """The values of a call, the message among them. Raises UsageError for two messages."""
    if message is None:
        return values
    if "user_message" in values:
        raise click.UsageError("--message and -p user_message=… are the same thing.")
    return values | {"user_message": message}


def text_or_file(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """A text as it was typed; with an @ in front, the one in the file of that name.

    @- is standard input, which is also the way for a text that begins with an @.
    """
    if text is None or not text.startswith("@"):
        return text
    name = text.removeprefix("@")
    if name != STDIN:
        return read_text(Path(name))
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise click.UsageError("Standard input is not UTF-8.") from None


TEXT_OR_FILE = "TEXT|@FILE"
"""How help writes what `text_or_file` reads."""

data_option = click.option(
    "--data",
    metavar="DIR",
    envvar="X402JOBS_DATA",
    default=Settings().data,
    show_default=True,
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the embedded store and its keys.",
)


def settings_at(data: Path) -> Settings:
    """The environment's, over this directory, which must be there: nothing is made by looking."""
    if not data.is_dir():
        complain(f"there is no data directory {data}.")
        sys.exit(1)
    return Settings.from_env({**os.environ, "X402JOBS_DATA": str(data)})
