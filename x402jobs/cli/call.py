"""Buying one answer: pay, read it as it arrives, keep the receipt."""

import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from x402jobs.cli.answer import parse
from x402jobs.cli.credential import as_option, is_here, signed_in, web_address
from x402jobs.cli.ending import Exit, Show, lines, not_reached, read, words
from x402jobs.cli.options import data_option, message_option, values_option, with_message
from x402jobs.cli.terminal import complain
from x402jobs.domain.money import MICRO, as_usdc, parse_usdc

if TYPE_CHECKING:
    from requests import Session

PATIENCE = (10, 120)
"""Seconds to connect, and to wait for the next byte: opening and settling happen in silence."""


def _dollars(_: click.Context, __: click.Parameter, text: str) -> int:
    try:
        return parse_usdc(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


@click.command()
@click.argument("url", callback=web_address)
@values_option
@message_option
@click.option(
    "--max-usd",
    "cap",
    metavar="USD",
    default="1.00",
    show_default=True,
    callback=_dollars,
    help="Pay at most this; a higher price is refused before anything is signed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
@click.option(
    "--wallet",
    "wallet_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The payer's private key, made when there is none.  [default: wallet.key in DIR]",
)
@click.option(
    "--owner-test",
    is_flag=True,
    help="Try a template of your own: nothing is signed, nothing is charged.",
)
@as_option
@data_option
@click.pass_context
def call(
    context: click.Context,
    url: str,
    values: dict[str, str],
    message: str | None,
    cap: int,
    as_json: bool,
    wallet_file: Path | None,
    owner_test: bool,
    as_user: str | None,
    data: Path,
) -> None:
    """Pay for one answer of the template at URL, and print it as it arrives.

    The answer goes to standard output: as text on a terminal, else as one line of JSON for each
    event, exactly as received. Everything else, the receipt included, goes to standard error.

    With --owner-test the creator of the template asks, by --as USER or the token in
    X402JOBS_TOKEN, instead of somebody who pays.

    \b
    Exit codes:
      0  the whole answer has arrived
      1  something unexpected; no connection
      2  wrong usage
      3  not paid: over --max-usd, nothing this wallet can pay with, or payment refused
      4  the request was refused
      5  not now; the same command may succeed later
      6  paid, or perhaps paid, and no whole answer; a receipt or credit is printed
    130  interrupted

    A credit is used by sending the same payment again. This command keeps no payment: each run
    signs a new one.
    """
    source = context.get_parameter_source("as_user")
    if source is ParameterSource.COMMANDLINE and not owner_test:
        raise click.UsageError("--as goes with --owner-test; a wallet pays, not a user.")
    values = with_message(values, message)
    show = lines if as_json or not sys.stdout.isatty() else words
    if owner_test:
        with signed_in(url, as_user, data) as session:
            session.headers["X-OWNER-TEST"] = "true"
            context.exit(_ask(session, url, values, show))
    from x402jobs.devkit.wallet import Wallet, paying_session

    try:
        wallet = Wallet.open(wallet_file or data / "wallet.key")
    except ValueError as error:
        complain(f"{error}.")
        context.exit(Exit.FAILED)
    with paying_session(wallet, Decimal(cap) / MICRO) as session:
        session.trust_env = not is_here(url)
        context.exit(_buy(session, url, values, cap, show))


def _buy(session: "Session", url: str, values: Mapping[str, str], cap: int, show: Show) -> Exit:
    import requests
    from x402.http.clients.requests import PaymentError

    try:
        return _ask(session, url, values, show)
    except PaymentError as error:
        if not isinstance(error.__cause__, requests.RequestException):
            return _not_paid(_price(url, values, session.trust_env), cap)
        complain(
            "The connection broke after the payment was sent; it may have been taken. "
            "Running this command again signs a new one."
        )
        return Exit.UNFINISHED


def _ask(session: "Session", url: str, values: Mapping[str, str], show: Show) -> Exit:
    import requests

    try:
        # A redirect is not followed: it would take the payment, or the token, somewhere else.
        with session.post(
            url, json=values, stream=True, allow_redirects=False, timeout=PATIENCE
        ) as response:
            return read(response, show)
    except requests.RequestException as error:
        return not_reached(url, error)


def _price(url: str, values: Mapping[str, str], trust_env: bool) -> str | None:
    """The price, asked for once more by a client that cannot pay; None when it is not told."""
    import requests

    with requests.Session() as session:
        session.trust_env = trust_env
        try:
            reply = session.post(url, json=values, allow_redirects=False, timeout=PATIENCE)
        except requests.RequestException:
            return None
    price = parse(reply.content).get("price")
    return str(price.get("usdc")) if isinstance(price, dict) else None


def _not_paid(price: str | None, cap: int) -> Exit:
    """Say why our client has not signed: the SDK's own words name options that are not ours."""
    try:
        is_over_the_cap = price is not None and parse_usdc(price) > cap
    except ValueError:
        is_over_the_cap = False
    if is_over_the_cap:
        complain(
            f"The price is {price} USDC, over the cap of {as_usdc(cap)} (--max-usd). "
            "Nothing was paid."
        )
    else:
        complain("There is no offer that this wallet can pay. Nothing was paid.")
    return Exit.NOT_PAID
