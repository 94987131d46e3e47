"""Buying one answer: pay, read it as it arrives, keep the receipt."""

import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from x402jobs.cli.answer import events, parse, receipt_lines, receipt_of
from x402jobs.cli.options import data_option
from x402jobs.cli.terminal import complain, plain
from x402jobs.domain.money import MICRO, as_usdc, parse_usdc

if TYPE_CHECKING:
    from requests import Response, Session

PATIENCE = (10, 120)
"""Seconds to connect, and to wait for the next byte: opening and settling happen in silence."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Exit(IntEnum):
    """What the command's exit code says; `x402jobs call --help` has the same list."""

    ANSWERED = 0
    FAILED = 1
    USAGE = 2
    NOT_PAID = 3
    REFUSED = 4
    LATER = 5
    UNFINISHED = 6


RECOVERABLE = frozenset({"NETWORK_ERROR", "EMPTY_ANSWER"})
"""The recoverable codes of spec/wire.md whose status alone does not say so."""
IN_THE_AIR = frozenset({"IN_PROGRESS", "SETTLEMENT_UNKNOWN"})
"""The codes after which the payment just sent may have been taken, or be taken yet."""


def _dollars(_: click.Context, __: click.Parameter, text: str) -> int:
    try:
        return parse_usdc(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


def _web_address(_: click.Context, __: click.Parameter, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter("an http or https URL, please.")
    return url


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


@click.command()
@click.argument("url", callback=_web_address)
@click.option(
    "-p",
    "--parameter",
    "values",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_values,
    help="A parameter of the template; may be repeated.",
)
@click.option("--message", help="A message to Claude, where the template takes one.")
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
    data: Path,
) -> None:
    """Pay for one answer of the template at URL, and print it as it arrives.

    The answer goes to standard output: as text on a terminal, else as one line of JSON for each
    event, exactly as received. Everything else, the receipt included, goes to standard error.

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
    from x402jobs.devkit.wallet import Wallet, paying_session

    if message is not None and values.setdefault("user_message", message) is not message:
        raise click.UsageError("--message and -p user_message=… are the same thing.")
    try:
        wallet = Wallet.open(wallet_file or data / "wallet.key")
    except ValueError as error:
        complain(f"{error}.")
        context.exit(Exit.FAILED)
    show = _lines if as_json or not sys.stdout.isatty() else _words
    with paying_session(wallet, Decimal(cap) / MICRO) as session:
        # On this machine there is no proxy between, whatever the environment says.
        session.trust_env = urlsplit(url).hostname not in LOOPBACK
        context.exit(_buy(session, url, values, cap, show))


Show = Callable[[str, Mapping[str, Any]], None]
"""Prints one event, given as received and as read."""


def _buy(session: "Session", url: str, values: Mapping[str, str], cap: int, show: Show) -> Exit:
    import requests
    from x402.http.clients.requests import PaymentError

    try:
        # A redirect is not followed: it would take the payment to another address.
        with session.post(
            url, json=values, stream=True, allow_redirects=False, timeout=PATIENCE
        ) as response:
            return _read(response, show)
    except PaymentError as error:
        if not isinstance(error.__cause__, requests.RequestException):
            return _not_paid(_price(url, values, session.trust_env), cap)
        complain(
            "The connection broke after the payment was sent; it may have been taken. "
            "Running this command again signs a new one."
        )
        return Exit.UNFINISHED
    except requests.Timeout:
        complain(f"{urlsplit(url).netloc} did not answer in time.")
    except requests.RequestException:
        complain(f"There is no connection to {urlsplit(url).netloc}.")
    return Exit.FAILED


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


def _read(response: "Response", show: Show) -> Exit:
    """Print a reply as it comes, and judge it by its end."""
    import requests

    if response.status_code != 200:
        return _refused(response)
    if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
        complain("The reply is not a stream of events; this is not an x402jobs template.")
        return Exit.FAILED
    ending: Mapping[str, Any] = {}
    try:
        for data in events(response.iter_content(chunk_size=None)):
            event = parse(data)
            show(data, event)
            if event.get("type") in ("done", "error"):
                ending = event
    except requests.RequestException:
        pass  # judged below: no ending has arrived
    if show is _words:
        click.echo()
    receipt = _object(ending, "receipt") or receipt_of(response.headers)
    if ending.get("type") == "done":
        _print_receipt(receipt)
        return Exit.ANSWERED
    _explain(
        str(ending.get("message") or "The connection broke before the answer's end."),
        ending.get("code"),
        response.headers.get("X-Request-Id"),
    )
    if receipt:
        return _unfinished(receipt, _object(ending, "credit"))
    return Exit.LATER if ending.get("recoverable") else Exit.FAILED


def _refused(response: "Response") -> Exit:
    """Explain a reply that is no answer."""
    status, body = response.status_code, parse(response.content)
    code = str(body.get("code"))
    sentence = body.get("message") or body.get("error")
    _explain(
        sentence if isinstance(sentence, str) else f"The server answered with status {status}.",
        body.get("code"),
        body.get("requestId") or response.headers.get("X-Request-Id"),
    )
    wait = response.headers.get("Retry-After")
    if wait:
        click.echo(f"Try again in {plain(wait)} s.", err=True)
    if code in IN_THE_AIR:
        click.echo(
            "The payment may have been taken. Running this command again signs a new one.", err=True
        )
        return Exit.UNFINISHED
    if receipt := _object(body, "receipt"):
        return _unfinished(receipt, _object(body, "credit"))
    if status == 402:
        return Exit.NOT_PAID
    if status in (429, 503, 504) or code in RECOVERABLE:
        return Exit.LATER
    return Exit.REFUSED if 400 <= status < 500 else Exit.FAILED


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """A member that is an object; None for anything else a stranger's server may send."""
    value = body.get(name)
    return value if isinstance(value, dict) else None


def _unfinished(receipt: Mapping[str, Any], credit: Mapping[str, Any] | None) -> Exit:
    _print_receipt(receipt)
    if credit:
        click.echo(
            plain(
                f"credit       {credit.get('amountUsdc')} USDC: {credit.get('rerunsLeft')} free "
                "re-runs of the same request with the same payment.\n"
                "             This command keeps no payment; running it again signs a new one."
            ),
            err=True,
        )
    return Exit.UNFINISHED


def _lines(data: str, _: Mapping[str, Any]) -> None:
    click.echo(data)


def _words(_: str, event: Mapping[str, Any]) -> None:
    if event.get("type") == "text":
        click.echo(plain(str(event.get("content"))), nl=False)


def _explain(sentence: str, code: object, request_id: object) -> None:
    names = ", ".join(str(each) for each in (code, request_id) if each)
    complain(f"{sentence} ({names})" if names else sentence)


def _print_receipt(receipt: Mapping[str, Any] | None) -> None:
    lines = receipt_lines(receipt) if receipt else ["Nothing was charged."]
    click.echo(plain("\n".join(lines)), err=True)
