"""Whether a call costs more as a shop gets older, or its prompts longer."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from benchmarks.contest import Contestant, orders_of
from benchmarks.results import LEDGER_GROWTH, Goal, Part, Row
from benchmarks.rounds import Round, per_call, play_rounds, tell

_FILL = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
    INSERT INTO x402_executions (
        id, kind, state, attempt, worker, claim_key, template_id, template_version, digest, payer,
        network, amount, valid_before, "transaction", log_index, model, usage, stop_reason,
        created_at, verified_at, opened_at, settled_at, ended_at
    )
    SELECT
        lower(hex(randomblob(16))), 'paid', 'completed', 1, 'earlier', lower(hex(randomblob(32))),
        (SELECT id FROM x402_resources WHERE slug = 'words'), 1, lower(hex(randomblob(32))),
        '0x' || lower(hex(randomblob(20))), 'eip155:31337', 100, began + 60,
        '0x' || lower(hex(randomblob(32))), 0, 'claude-benchmark',
        '{"input_tokens":10,"output_tokens":200}', 'end_turn',
        began, began + 0.01, began + 0.5, began + 0.6, began + 5
    FROM (SELECT unixepoch('now') - 172800 - n AS began FROM numbers)"""


def fill(data: Path, rows: int) -> None:
    """Put so many completed sales of the same template into the ledger, a second apart, the last
    of them two days ago: their answers are gone, their rows stay.
    """
    with closing(sqlite3.connect(data / "x402jobs.sqlite3")) as store, store:
        store.execute(_FILL, [rows])


def growing(
    title: str,
    products: Mapping[str, Contestant],
    rounds: int,
    calls: int,
    goal: Goal | None = None,
    rate: float = 25.0,
) -> Part:
    """CPU of a call with one delta, from the smallest product to the biggest, in turns; so many
    calls a second."""
    orders = orders_of(calls, 1)
    played = play_rounds(
        title,
        rounds,
        lambda: Round(
            {label: tell(label, each, orders, calls / rate) for label, each in products.items()}
        ),
    )
    labels = list(products)
    rows = [Row(label, played.values(label, per_call)) for label in labels]
    reached = {goal: played.ratios(labels[-1], labels[0], per_call)} if goal else {}
    return Part(title, "ms", 1, rows, played.dropped, reached)


def with_rows(products: Mapping[str, Contestant], rounds: int, calls: int) -> Part:
    """One product a ledger, each filled beforehand."""
    title = "CPU of a 1-delta call, by rows in the ledger"
    return growing(title, products, rounds, calls, LEDGER_GROWTH)


def with_workers(products: Mapping[str, Contestant], rounds: int, calls: int) -> Part:
    """One product with so many workers each, all over the same project, all on one core: with more
    calls a second they would wait for each other."""
    title = "CPU of a 1-delta call over Postgres, by workers"
    return growing(title, products, rounds, calls, rate=10.0)


def with_prompts(products: Mapping[str, Contestant], rounds: int, calls: int) -> Part:
    """One template a size."""
    return growing("CPU of a 1-delta call, by the prompt's size", products, rounds, calls)
