"""How a reply ended: what is said about it, and the exit code it deserves."""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from x402jobs.cli.answer import events, parse, receipt_lines, receipt_of
from x402jobs.cli.terminal import complain, plain

if TYPE_CHECKING:
    from requests import RequestException, Response


class Exit(IntEnum):
    """What an exit code says; `--help` of the commands has the same list."""

    DONE = 0
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

Show = Callable[[str, Mapping[str, Any]], None]
"""Prints one event, given as received and as read."""


def lines(data: str, _: Mapping[str, Any]) -> None:
    """For programs: the event as it came."""
    click.echo(data)


def words(_: str, event: Mapping[str, Any]) -> None:
    """For people: the answer's text."""
    if event.get("type") == "text":
        click.echo(plain(str(event.get("content"))), nl=False)


def read(response: "Response", show: Show) -> Exit:
    """Print a reply as it comes, and judge it by its end."""
    if response.status_code != 200:
        return refused(response)
    kind = response.headers.get("Content-Type", "")
    if kind.startswith("application/json"):
        return _whole(response, show)
    if not kind.startswith("text/event-stream"):
        complain("The reply is not a stream of events; this is not an x402jobs template.")
        paid = receipt_of(response.headers)
        return _unfinished(paid, None) if paid else Exit.FAILED
    ending = follow(response, show)
    if show is words:
        click.echo()
    receipt = _object(ending, "receipt") or receipt_of(response.headers)
    if ending.get("type") == "done":
        _print_receipt(receipt)
        return Exit.DONE
    explain(
        str(ending.get("message") or "The connection broke before the answer's end."),
        ending.get("code"),
        response.headers.get("X-Request-Id"),
    )
    if receipt:
        return _unfinished(receipt, _object(ending, "credit"))
    return Exit.LATER if ending.get("recoverable") else Exit.FAILED


def follow(response: "Response", show: Show) -> Mapping[str, Any]:
    """Print a stream as it comes. The event that ends it; an empty one when none has arrived."""
    import requests

    ending: Mapping[str, Any] = {}
    try:
        for data in events(response.iter_content(chunk_size=None)):
            event = parse(data)
            show(data, event)
            if event.get("type") in ("done", "error"):
                ending = event
    except requests.RequestException:
        pass  # whoever asked sees that there is no ending
    return ending


def _whole(response: "Response", show: Show) -> Exit:
    """An answer in one JSON reply, which the address asked for (?stream=false)."""
    body = parse(response.content)
    if show is words:
        click.echo(plain(str(body.get("response"))))
    else:
        click.echo(response.text.rstrip("\n"))
    _print_receipt(_object(body, "receipt") or receipt_of(response.headers))
    return Exit.DONE if isinstance(body.get("response"), str) else Exit.FAILED


def refused(response: "Response") -> Exit:
    """Explain a reply that is no answer."""
    status, body = response.status_code, parse(response.content)
    code = str(body.get("code"))
    sentence = body.get("message") or body.get("error")
    explain(
        sentence if isinstance(sentence, str) else f"The server answered with status {status}.",
        body.get("code"),
        body.get("requestId") or response.headers.get("X-Request-Id"),
        body.get("field"),
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


def not_reached(url: str, error: "RequestException") -> Exit:
    """Say that nobody has answered."""
    import requests

    place = urlsplit(url).netloc.rpartition("@")[2]
    if isinstance(error, requests.Timeout):
        complain(f"{place} did not answer in time.")
    else:
        complain(f"There is no connection to {place}.")
    return Exit.FAILED


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


def explain(sentence: str, code: object, trace_id: object, field: object = None) -> None:
    """Say what went wrong, its code, and the id it is found by.

    A sentence that does not name its field is followed by the field's name.
    """
    if isinstance(field, str) and field not in sentence:
        field = f"field {field}"
    else:
        field = None
    names = ", ".join(str(each) for each in (code, field, trace_id) if each)
    complain(f"{sentence} ({names})" if names else sentence)


def _print_receipt(receipt: Mapping[str, Any] | None) -> None:
    said = receipt_lines(receipt) if receipt else ["Nothing was charged."]
    click.echo(plain("\n".join(said)), err=True)
