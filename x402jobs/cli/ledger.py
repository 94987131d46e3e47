"""The ledger, for its operator: does it hold, what is in it, what has been paid out."""

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from x402jobs.cli.options import data_option, settings_at
from x402jobs.cli.shop import yes_option
from x402jobs.cli.table import columns, pairs
from x402jobs.cli.terminal import complain
from x402jobs.domain.execution import State
from x402jobs.domain.money import as_usdc

if TYPE_CHECKING:
    from x402jobs.ports import Entry
    from x402jobs.services.audit import Report

SHOWN = 20
"""How many rows of a broken invariant are named on a terminal; the JSON has them all."""
TRANSACTION = re.compile(r"0x[0-9a-fA-F]{64}")


@click.group()
def ledger() -> None:
    """Who bought what, and whether all of it is in order (docs/payments.md).

    Run these where the server runs, with its environment; the server may be serving.

    On a terminal these commands print tables, on a pipe one JSON object. Times are UTC; validBefore
    is in unix seconds, as it was signed.
    """


def _template(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    named = re.fullmatch(r"@([^/]+)/([^/]+)", text)
    if named is None:
        raise click.BadParameter("@user/slug, please.")
    return named[1], named[2]


def _transaction(_: click.Context, __: click.Parameter, text: str) -> str:
    if TRANSACTION.fullmatch(text) is None:
        raise click.BadParameter("0x and 64 hexadecimal digits, please.")
    return text.lower()


@ledger.command()
@data_option
@click.pass_context
def check(context: click.Context, data: Path) -> None:
    """Look for what must never be. Changes nothing.

    \b
    The JSON has:
      executions  how many were looked at
      invariants  by how many rules
      broken      each rule that does not hold: name, rule, and the ids in rows

    \b
    Exit codes:
      0  all invariants hold
      1  some do not, or the ledger could not be read
    """
    from x402jobs import wiring

    report = wiring.audit(settings_at(data, play_money=True)).check()
    _show_report(report)
    context.exit(1 if report.broken else 0)


@ledger.command(name="list")
@click.option("--state", type=click.Choice([state.value for state in State]))
@click.option(
    "--template",
    metavar="@USER/SLUG",
    callback=_template,
    help="Those of one creator's slug, whatever has become of the template.",
)
@click.option(
    "--limit",
    metavar="N",
    default=25,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="At most so many, the newest.",
)
@data_option
def list_entries(
    state: str | None, template: tuple[str, str] | None, limit: int, data: Path
) -> None:
    """List executions, newest first."""
    from x402jobs import stores

    page = stores.audit(settings_at(data)).entries(limit, State(state) if state else None, template)
    said = [_document(entry) for entry in page.items]
    if not sys.stdout.isatty():
        click.echo(json.dumps({"executions": said, "total": page.total}))
        return
    if not said:
        click.echo("No executions.")
        return
    columns(
        ("when", "template", "kind", "state", "usdc", "code", "payer", "id"),
        [
            (
                each["createdAt"],
                each["template"] or each["tile"],
                each["kind"],
                each["state"],
                each["amountUsdc"],
                each["code"],
                each["payer"],
                each["id"],
            )
            for each in said
        ],
    )
    if page.has_more:
        complain(f"{page.total - len(said)} more; --limit shows them.")


@ledger.command()
@click.argument("execution_id", metavar="ID")
@data_option
def show(execution_id: str, data: Path) -> None:
    """Show one execution: everything but what is sealed."""
    from x402jobs import stores

    _show(stores.audit(settings_at(data)).entry(execution_id))


@ledger.command()
@click.argument("execution_id", metavar="ID")
@click.option(
    "--tx",
    "transaction",
    metavar="0x…",
    required=True,
    callback=_transaction,
    help="The transaction in which you have paid the payer back.",
)
@yes_option
@data_option
def refund(execution_id: str, transaction: str, yes: bool, data: Path) -> None:
    """Write down that a debt was paid out by hand: refund_due becomes refunded.

    This moves no money and asks no chain: pay first, from your own wallet, then come here. It
    cannot be undone. Said again with the same transaction it changes nothing.
    """
    from x402jobs import stores

    audit = stores.audit(settings_at(data))
    row = audit.entry(execution_id).execution
    if row.state is State.REFUND_DUE and not yes:
        _agree(f"{as_usdc(row.amount)} USDC to {row.payer} on {row.network} in {transaction}?")
    audit.pay_out(execution_id, transaction)
    _show(audit.entry(execution_id))


def _agree(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked here; say --yes.")
    if not click.confirm(f"Paid out for good: {question}", err=True):
        complain("Nothing was written down.")
        raise click.exceptions.Exit(1)


def _show_report(report: "Report") -> None:
    if not sys.stdout.isatty():
        broken = [
            {"name": each.name, "rule": each.rule, "rows": list(each.rows)}
            for each in report.broken
        ]
        counts = {"executions": report.executions, "invariants": report.invariants}
        click.echo(json.dumps(counts | {"broken": broken}))
        return
    counted = f"{report.executions} execution{'' if report.executions == 1 else 's'}"
    if not report.broken:
        click.echo(f"{counted}, all invariants hold")
        return
    columns(
        ("invariant", "rows", "what must hold"),
        [(each.name, len(each.rows), each.rule) for each in report.broken],
    )
    click.echo()
    columns(
        ("invariant", "row"),
        [(each.name, row) for each in report.broken for row in each.rows[:SHOWN]],
    )
    for each in report.broken:
        if len(each.rows) > SHOWN:
            complain(f"{each.name}: and {len(each.rows) - SHOWN} more")
    click.echo()
    click.echo(f"{counted}, {len(report.broken)} of {report.invariants} invariants do not hold")


def _show(entry: "Entry") -> None:
    document = _document(entry)
    if sys.stdout.isatty():
        pairs(list(document.items()))
    else:
        click.echo(json.dumps(document))


def _document(entry: "Entry") -> dict[str, Any]:
    row = entry.execution
    return {
        "id": row.id,
        "kind": row.kind,
        "state": row.state,
        "code": row.code,
        "template": f"@{entry.username}/{entry.slug}" if entry.slug else None,
        "templateId": row.template_id,
        "templateVersion": row.template_version,
        "tile": row.tile,
        "digest": row.digest,
        "createdAt": _utc(row.created_at),
        "verifiedAt": _utc(row.verified_at),
        "openedAt": _utc(row.opened_at),
        "settledAt": _utc(row.settled_at),
        "endedAt": _utc(row.ended_at),
        "amountUsdc": as_usdc(row.amount),
        "payer": row.payer,
        "network": row.network,
        "validBefore": row.valid_before,
        "claimKey": row.claim_key,
        "transaction": row.transaction,
        "logIndex": row.log_index,
        "refundTransaction": row.refund_transaction,
        "callerId": row.caller_id,
        "model": row.model,
        "inputTokens": row.input_tokens,
        "outputTokens": row.output_tokens,
        "stopReason": row.stop_reason,
        "worker": row.worker,
        "attempt": row.attempt,
        "reruns": row.reruns,
    }


def _utc(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    time = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return time.replace("+00:00", "Z")
