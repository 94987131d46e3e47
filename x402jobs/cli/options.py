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
    help="Directory of the embedded store, of the key ring unless X402JOBS_KEYS has it, and of "
    "play money.",
)


def settings_at(data: Path, *, keys: bool = False, play_money: bool = False) -> Settings:
    """The environment's, over this directory; what is asked for says what else may rest in it.

    Where anything does the directory must be there: nothing is made by looking. What there is to
    log goes to standard error, so that the output is the answer alone.
    """
    from x402jobs.logs import configure_logs

    settings = Settings.from_env({**os.environ, "X402JOBS_DATA": str(data)})
    configure_logs(settings.log_level)
    missing = not data.is_dir()
    if missing and settings.is_embedded:
        complain(f"there is no data directory {data}.")
    elif missing and keys and not settings.keys:
        complain(f"there is no data directory {data} with a key ring; X402JOBS_KEYS is not set.")
    elif missing and play_money and not settings.facilitator_url:
        complain(f"there is no data directory {data} with play money; FACILITATOR_URL is not set.")
    else:
        return settings
    sys.exit(1)
