"""What must hold of the ledger, the money, Claude and everything that callers heard.

Each check has a name, which a violation begins with. `spec/money.md`, Proof.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tests.battery.callers import Heard
from tests.beneath import Beneath, Embedded
from x402jobs.devkit.development_ledger import Transfer

PAID = ("completed", "refund_due", "refunded")
OPEN = ("claimed", "settling", "settled")


def rows_of(store: Beneath) -> list[dict[str, Any]]:
    """The ledger's paid rows, as anybody could read them."""
    return store.sql(
        """SELECT e.*, a.execution_id IS NOT NULL AS has_answer FROM x402_executions e
        LEFT JOIN x402_answers a ON a.execution_id = e.id
        WHERE e.kind = 'paid' ORDER BY e.created_at, e.id"""
    )


def nonce_of(row: Mapping[str, Any]) -> str:
    """The nonce its claim key names."""
    return str(row["claim_key"]).rpartition(":")[2].partition("#")[0]


def violations(
    store: Beneath,
    transfers: Iterable[Transfer],
    asked: Mapping[str, int],
    heard: Iterable[Heard],
) -> list[str]:
    """Everything that does not hold, once nothing is under way any more."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    moved: dict[str, list[Transfer]] = defaultdict(list)
    for row in rows_of(store):
        rows[nonce_of(row)].append(row)
    for transfer in transfers:
        moved[transfer.nonce].append(transfer)
    found = list(_whole(store))
    for nonce, lines in moved.items():
        found += _of_money(nonce, lines, rows[nonce])
    for nonce, own in rows.items():
        found += _of_rows(nonce, own, moved[nonce], asked)
    for said in heard:
        found += _of_words(said, moved[said.payment.nonce], rows[said.payment.nonce])
    return found


def _whole(store: Beneath) -> Iterable[str]:
    """A file that every process writes to can be torn by them; a server has one hand."""
    if isinstance(store, Embedded):
        if store.sql("PRAGMA integrity_check") != [{"integrity_check": "ok"}]:
            yield "store is whole: integrity_check speaks"


def _of_money(nonce: str, lines: list[Transfer], own: list[dict[str, Any]]) -> Iterable[str]:
    if len(lines) > 1:
        yield f"one transfer: {len(lines)} for {nonce}"
    paid = [row for row in own if row["state"] in PAID]
    if len(paid) != 1:
        states = [row["state"] for row in own]
        yield f"paid is answered or owed: {nonce} moved, its rows are {states}"
        return
    transfer, row = lines[0], paid[0]
    if (row["transaction"], row["payer"], row["amount"]) != (
        transfer.transaction,
        transfer.payer,
        transfer.value,
    ):
        yield f"receipt is the transfer: {row['id']} names {row['transaction']}"


def _of_rows(
    nonce: str, own: list[dict[str, Any]], lines: list[Transfer], asked: Mapping[str, int]
) -> Iterable[str]:
    if len(own) > 1:
        yield f"one row a claim: {len(own)} for {nonce}"
    attempts = sum(row["attempt"] for row in own)
    if (calls := asked.get(f"topic-{nonce[2:18]}", 0)) > attempts:
        yield f"one call an attempt: {calls} calls in {attempts} attempts of {nonce}"
    for row in own:
        if row["state"] in OPEN:
            yield f"nothing is left open: {row['id']} is {row['state']}"
        elif row["sealed_payment"] is not None:
            yield f"payments are erased: {row['id']} keeps one, {row['state']}"
        if row["state"] in (*PAID, "settled") and not lines:
            yield f"answered or owed is paid: {row['id']} is {row['state']}, nothing moved"
        if (row["state"] == "completed") != bool(row["has_answer"]):
            yield f"the answer is kept: {row['id']} is {row['state']}"


def _of_words(said: Heard, lines: list[Transfer], own: list[dict[str, Any]]) -> Iterable[str]:
    nonce, states = said.payment.nonce, [row["state"] for row in own]
    if (said.text or said.done) and not lines:
        yield f"served is paid: {nonce} heard words"
    if said.text and lines and said.first_word_at is not None:
        if said.first_word_at < lines[0].at:
            yield f"served is paid: {nonce} heard words before the money moved"
    if not said.payment.answer.startswith(said.text):
        yield f"the answer is theirs: {nonce} heard {said.text[:60]!r}"
    if said.done and (states != ["completed"] or said.text != said.payment.answer):
        yield f"done is completed: {nonce} heard done, its rows are {states}"
    if said.error and "credit" in said.error and states[-1:] not in (["refund_due"], ["completed"]):
        yield f"a debt is written down: {nonce} was told of one, its rows are {states}"
    if said.status == 402 and lines and lines[0].at < said.began:
        yield f"nobody is asked twice: {nonce} heard 402 after it had paid"
    if said.status == 500:
        yield f"no fault of ours: {nonce} heard 500"


def tally(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How many rows are in each state."""
    return Counter(row["state"] for row in rows)
