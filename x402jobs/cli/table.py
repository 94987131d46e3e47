"""Rows for people: columns as wide as what is in them."""

import unicodedata
from collections.abc import Iterable, Sequence

import click

from x402jobs.cli.terminal import plain

GAP = "  "


def columns(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table. The last column may be of any length: nothing is behind it."""
    cells = [[click.style(name, dim=True) for name in head]]
    cells += [[_one_line(value) for value in row] for row in rows]
    widths = [max(_width(cell) for cell in column) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [cell + " " * (n - _width(cell)) for cell, n in zip(row, widths, strict=True)]
        click.echo(GAP.join(padded).rstrip())


def pairs(rows: Sequence[tuple[str, object]]) -> None:
    """Print names and what they stand for, one a line."""
    longest = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{click.style(name.ljust(longest), dim=True)}{GAP}{_one_line(value)}")


def _one_line(value: object) -> str:
    return "-" if value in (None, "") else " ".join(plain(str(value)).split())


def _width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    marks = [character for character in click.unstyle(text) if not unicodedata.combining(character)]
    return sum(2 if unicodedata.east_asian_width(mark) in "WF" else 1 for mark in marks)
