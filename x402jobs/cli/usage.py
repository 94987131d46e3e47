"""What a template has sold."""

from collections.abc import Mapping
from typing import Any

import click

from x402jobs.cli.shop import EXIT_CODES, Shop, shop_options
from x402jobs.cli.table import columns, pairs
from x402jobs.cli.template import DOOR, id_argument, id_of, say_rest


@click.command(epilog=EXIT_CODES)
@id_argument
@click.option("--limit", metavar="N", type=int, help="At most so many runs.  [default: 25]")
@click.option("--offset", metavar="N", type=int, help="Leave out the first N runs.")
@shop_options
def usage(shop: Shop, which: str, limit: int | None, offset: int | None) -> None:
    """Show what your template has sold: the sums, then the runs, newest first."""
    query = {"limit": limit, "offset": offset}
    door = f"{DOOR}/{id_of(shop, which)}/usage"
    shop.show(shop.ask("GET", door, "totals", query=query), _words)


def _words(said: Mapping[str, Any]) -> None:
    totals = said["totals"]
    pairs(
        [
            (
                "calls",
                f"{totals['calls']}: {totals['completed']} completed, {totals['failed']} failed",
            ),
            ("your tests", totals["tests"]),
            ("tokens", f"{totals['inputTokens']} in, {totals['outputTokens']} out"),
            ("revenue", f"{totals['revenueUsdc']} USDC"),
            ("refunds due", f"{totals['refundsDueUsdc']} USDC"),
        ]
    )
    if not said["executions"]:
        return
    click.echo()
    columns(
        ("when", "kind", "state", "paid", "tokens", "ms", "code", "id"),
        [
            (
                each["createdAt"],
                each["kind"],
                each["state"],
                each["paidUsdc"],
                _tokens(each),
                each["durationMs"],
                each["code"],
                each["id"],
            )
            for each in said["executions"]
        ],
    )
    say_rest(said)


def _tokens(execution: Mapping[str, Any]) -> str | None:
    if execution["inputTokens"] is None:
        return None
    return f"{execution['inputTokens']}+{execution['outputTokens']}"
