"""Whom the command speaks for, and to which host alone."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from x402jobs.domain.secret import Secret

if TYPE_CHECKING:
    from requests import PreparedRequest, Session

LOOPBACK = ("127.0.0.1", "localhost", "::1")

TOKEN = "X402JOBS_TOKEN"

as_option = click.option(
    "--as",
    "as_user",
    metavar="USER",
    envvar="X402JOBS_AS",
    show_envvar=True,
    help=f"Speak for this user of the embedded store in DIR. Elsewhere set {TOKEN}.",
)


def web_address(_: click.Context, __: click.Parameter, url: str) -> str:
    """An http or https URL, in which our parser and the client's see the same host."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or re.search(r"[\x00-\x1f\x7f\\]", url):
        raise click.BadParameter("an http or https URL, please.")
    return url


def is_here(url: str) -> bool:
    """Whether the address is this machine's, where no proxy is between."""
    return urlsplit(url).hostname in LOOPBACK


def signed_in(url: str, as_user: str | None, data: Path) -> "Session":
    """A session that sends the creator's token to this address; never follow a redirect with it.

    Raises UsageError before anything is sent: for plain http to another machine, or without a
    token.
    """
    import requests

    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise click.UsageError(f"The URL holds a name or a password; a token is set with {TOKEN}.")
    if parts.scheme != "https" and not is_here(url):
        raise click.UsageError(
            f"A token is not sent to {parts.hostname} in clear text. Use https://{parts.netloc}"
        )
    token = _token(url, as_user, data)

    def authorize(request: "PreparedRequest") -> "PreparedRequest":
        request.headers["Authorization"] = f"Bearer {token.reveal()}"
        return request

    session = requests.Session()
    session.trust_env = not is_here(url)
    session.auth = authorize  # a header alone would be replaced by what ~/.netrc has for the host
    return session


def _token(url: str, as_user: str | None, data: Path) -> Secret:
    """`--as` on the command line comes first; two variables that may disagree do not count."""
    given = os.environ.get(TOKEN, "").strip()
    source = click.get_current_context().get_parameter_source("as_user")
    if as_user and given and source is not ParameterSource.COMMANDLINE:
        raise click.UsageError(f"{TOKEN} and X402JOBS_AS are both set; unset one of them.")
    if as_user:
        return _signed_here(url, as_user, data)
    if not given:
        raise click.UsageError(
            "Who is asking? Where the shop's data directory is on this machine, add --as USER "
            f"(and --data DIR). For any other shop, set {TOKEN} to a token of yours."
        )
    if re.fullmatch(r"[\x21-\x7e]+", given) is None:
        raise click.UsageError(f"{TOKEN} does not hold a token.")
    return Secret(given)


def _signed_here(url: str, name: str, data: Path) -> Secret:
    from x402jobs.cli.accounts import embedded_settings, issue

    if not is_here(url):
        raise click.UsageError(
            f"--as signs for the shop on this machine; for {urlsplit(url).netloc} set {TOKEN}."
        )
    embedded_settings(data)
    if not data.is_dir():
        raise click.UsageError(f"There is no data directory {data}; name the shop's with --data.")
    token = issue(name, data)
    if token is None:
        raise click.UsageError(
            f"There is no user {name} in {data}. To add one: x402jobs user add {name}"
        )
    return Secret(token)
