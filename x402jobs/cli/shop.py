"""A running shop's doors, as a creator's commands knock at them."""

import functools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import click

from x402jobs.cli.answer import parse
from x402jobs.cli.credential import as_option, signed_in, web_address
from x402jobs.cli.ending import Exit, not_reached, refused
from x402jobs.cli.options import data_option
from x402jobs.cli.terminal import complain
from x402jobs.settings import Settings

if TYPE_CHECKING:
    from requests import Response, Session

Ended = TypeVar("Ended")

PATIENCE = (10, 60)
"""Seconds to connect, and to be answered: the shop may ask Claude about a key meanwhile. In a
stream they are between two bytes, where pings come more often."""


@dataclass(frozen=True)
class Shop:
    """One shop, and the creator who speaks to it. Nothing is sent before the first question."""

    url: str
    as_user: str | None
    data: Path
    as_json: bool

    @cached_property
    def _session(self) -> "Session":
        session = signed_in(self.url, self.as_user, self.data)
        return click.get_current_context().with_resource(session)

    def sign_in(self) -> None:
        """Find out now, before anybody is asked for a secret, whether the shop can be asked."""
        _ = self._session

    def ask(
        self,
        method: str,
        door: str,
        has: str,
        send: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What the door replies, by which it is known: a shop of ours says something that `has` it.

        Anything but a success is explained, and ends the command with the exit code it deserves.
        """
        document = parse(self._reply(method, door, send, query).content)
        if has not in document:
            self._is_no_shop()
        return document

    def stream(self, door: str, send: Mapping[str, Any], query: Mapping[str, Any]) -> "Response":
        """A reply of events that is still being written; whoever closes it hangs up."""
        reply = self._reply("POST", door, send, query, stream=True)
        if not reply.headers.get("Content-Type", "").startswith("text/event-stream"):
            self._is_no_shop()
        return reply

    def delete(self, door: str) -> None:
        """Take away what is behind the door, which has nothing to say to that."""
        self._reply("DELETE", door)

    def _reply(
        self,
        method: str,
        door: str,
        send: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        *,
        stream: bool = False,
    ) -> "Response":
        import requests

        try:
            reply = self._session.request(
                method,
                self.url + door,
                json=send,
                params=query,
                stream=stream,
                allow_redirects=False,
                timeout=PATIENCE,
            )
        except requests.RequestException as error:
            raise click.exceptions.Exit(not_reached(self.url, error)) from None
        if reply.is_redirect:
            complain(
                f"{urlsplit(self.url).netloc} redirects, and a token does not go along. "
                "Give the shop's own address with --url."
            )
            raise click.exceptions.Exit(Exit.FAILED)
        if not reply.ok:
            raise click.exceptions.Exit(refused(reply))
        return reply

    def _is_no_shop(self) -> NoReturn:
        complain(f"{urlsplit(self.url).netloc} is not an x402jobs shop.")
        raise click.exceptions.Exit(Exit.FAILED)

    @property
    def shows_words(self) -> bool:
        """Whether a person reads what is printed, and not a program."""
        return not self.as_json and sys.stdout.isatty()

    def show(self, document: dict[str, Any], words: Callable[[dict[str, Any]], None]) -> None:
        """The reply: as JSON for a program, in words on a terminal."""
        if self.shows_words:
            words(document)
        else:
            click.echo(json.dumps(document))


def _origin(context: click.Context, parameter: click.Parameter, url: str) -> str:
    """Where a shop's doors are: they have no path in front of them."""
    parts = urlsplit(web_address(context, parameter, url))
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise click.BadParameter("the shop's address without a path, such as https://shop.example")
    return f"{parts.scheme}://{parts.netloc}"


def shop_options(command: Callable[..., Ended]) -> Callable[..., Ended]:
    """--url, --as, --data and --json; the command is given the shop that they name."""

    @functools.wraps(command)
    def with_shop(
        *args: Any, url: str, as_user: str | None, data: Path, as_json: bool, **rest: Any
    ) -> Ended:
        return command(*args, shop=Shop(url, as_user, data, as_json), **rest)

    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on a terminal too.")
    url = click.option(
        "--url",
        envvar="X402JOBS_URL",
        default=Settings().public_url,
        show_default=True,
        show_envvar=True,
        callback=_origin,
        help="The shop.",
    )
    return url(as_option(data_option(as_json(with_shop))))


def sure(question: str, yes: bool) -> None:
    """Ask before what cannot be undone; without anybody to ask only --yes will do."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked here; say --yes.")
    if not click.confirm(question, err=True):
        complain("Nothing was removed.")
        raise click.exceptions.Exit(Exit.FAILED)


yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


class ShownAlone(click.Group):
    """A noun that is shown when no verb follows it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """What is no verb is not repeated: it may be a key that somebody typed here."""
        if args[0] not in self.commands:
            ctx.fail(f"Choose one of: {', '.join(self.commands)}.")
        return super().resolve_command(ctx, args)


EXIT_CODES = """\b
    Exit codes:
      0  done
      1  something unexpected; no connection
      2  wrong usage: nothing was sent
      4  the shop has refused; the sentence says why
      5  not now; the same command may succeed later
    130  interrupted"""
