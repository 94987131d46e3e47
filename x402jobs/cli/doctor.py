"""The doctor: a running deployment looked over, line by line."""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from x402jobs.cli.options import data_option
from x402jobs.cli.terminal import plain
from x402jobs.settings import Settings, SettingsError, readers

if TYPE_CHECKING:
    from x402jobs.doctor import Check, Finding

COLOURS = {"ok": "green", "warn": "yellow", "FAIL": "red", "not run": "cyan"}
FAILED, NOT_LOOKED_AT = 1, 2


def _template(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    named = re.fullmatch(r"@([^/]+)/([^/]+)", text)
    if named is None:
        raise click.BadParameter("@user/slug, please.")
    return named[1], named[2]


def _url(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return readers.public_url(text)
    except ValueError:
        raise click.BadParameter("an origin, please, such as https://shop.example.") from None


@click.command()
@click.option(
    "--url",
    metavar="PUBLIC_URL",
    callback=_url,
    help="Where callers find it, in place of PUBLIC_URL.",
)
@click.option(
    "--template",
    metavar="@USER/SLUG",
    callback=_template,
    help="The priced template to look at; without it, the newest on sale.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, on a terminal too.")
@data_option
@click.pass_context
def doctor(
    context: click.Context,
    url: str | None,
    template: tuple[str, str] | None,
    as_json: bool,
    data: Path,
) -> None:
    """Look a running deployment over, from inside and from outside.

    Run it where the server runs, as the user it runs as, with its environment. It changes nothing
    and charges nobody. With DATABASE_URL set it compares the migrations one by one.

    \b
    Each line is one check:
      ok       as it should be
      warn     it serves, and somebody should look
      FAIL     it is wrong; the line below says the mend
      not run  nobody knows; the line says why

    On a terminal it prints lines as it goes, on a pipe one JSON object with counts and checks.

    \b
    Exit codes:
      0  everything is ok, warnings aside
      1  something failed
      2  nothing failed, but something could not be looked at
    """
    from x402jobs.doctor import examine, fail, not_run
    from x402jobs.logs import configure_logs

    try:
        settings = Settings.from_env({**os.environ, "X402JOBS_DATA": str(data)})
    except SettingsError as error:
        lines = str(error).splitlines()
        found: Iterable[tuple[Check, Finding]] = [
            *((_named("settings"), fail(line, "docs/settings.md")) for line in lines),
            (_named("all the others"), not_run("settings comes first")),
        ]
    else:
        configure_logs(settings.log_level)
        settings = replace(settings, public_url=url) if url else settings
        found = examine(_checks(settings, template))
    context.exit(_told(found, as_json=as_json or not sys.stdout.isatty()))


def _named(name: str) -> "Check":
    from x402jobs.doctor import Check, ok

    return Check("place", name, lambda: ok(""))


def _checks(settings: Settings, template: tuple[str, str] | None) -> "list[Check]":
    from x402jobs import stores
    from x402jobs.doctor import front, limits, money, place, store

    return [
        *place.checks(settings),
        *store.checks(settings, os.environ.get("DATABASE_URL")),
        *money.checks(settings),
        *limits.checks(settings),
        *front.checks(settings, stores.store(settings).catalogue, template),
    ]


def _told(found: "Iterable[tuple[Check, Finding]]", *, as_json: bool) -> int:
    """Print what is found as it comes; the exit code."""
    seen = list(found if as_json else _printed(found))
    words: list[str] = [finding.word for _, finding in seen]
    counts = {word: words.count(word) for word in COLOURS}
    if as_json:
        checks = [
            {
                "group": check.group,
                "check": check.name,
                "status": finding.word,
                "says": finding.says,
                "mend": finding.mend or None,
            }
            for check, finding in seen
        ]
        click.echo(json.dumps({"counts": counts, "checks": checks}))
    else:
        click.echo("\n" + ", ".join(f"{count} {word}" for word, count in counts.items() if count))
    if counts["FAIL"]:
        return FAILED
    return NOT_LOOKED_AT if counts["not run"] else 0


def _printed(
    found: "Iterable[tuple[Check, Finding]]",
) -> "Iterator[tuple[Check, Finding]]":
    for group, members in groupby(found, key=lambda each: each[0].group):
        click.secho(group, bold=True)
        for check, finding in members:
            word = click.style(f"{finding.word:7}", fg=COLOURS[finding.word])
            click.echo(f"  {word}  {check.name}: {plain(finding.says)}")
            if finding.mend:
                click.echo(f"           {plain(finding.mend)}")
            yield check, finding
