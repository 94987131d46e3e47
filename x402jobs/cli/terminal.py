"""Words for a terminal."""

import re

import click

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    """Text from somebody else, without what a terminal would obey or an encoding would refuse."""
    return _CONTROLS.sub("", text).encode("utf-8", "replace").decode()


def complain(sentence: str) -> None:
    """A sentence on standard error, under the command's name."""
    click.echo(f"x402jobs: {plain(sentence)}", err=True)
