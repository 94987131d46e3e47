"""The ledger, for its operator, from the command line."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import X402JOBS, Command, on_a_terminal
from tests.contract.conftest import HAIKU, SqliteStore, bought
from x402jobs.devkit.demo import Demo
from x402jobs.domain.execution import State
from x402jobs.domain.invariants import INVARIANTS, PLAY_MONEY
from x402jobs.ports import Transferred

PAYMENT, PAID_OUT = "0x" + "ab" * 32, "0x" + "cd" * 32
SEALED = "v1.k1.planted"
REAL = {"FACILITATOR_URL": "https://facilitator.example", "X402_NETWORKS": "eip155:8453"}
"""Where money is real there is no play money to compare with."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / ".x402jobs"


@pytest.fixture
def worker(data: Path) -> Iterator[SqliteStore]:
    """A store that owes ada's customer 0.01 USDC, and knows of a claim that came to nothing."""
    worker = SqliteStore(data)
    worker.catalogue.add_template(replace(HAIKU, owner_id=worker.catalogue.add_user("ada")))
    row = bought(id="debt")
    worker.ledger.claim(row)
    transfer = Transferred(PAYMENT, 0)
    facts: dict[State, dict[str, Any]] = {
        State.SETTLING: {},
        State.SETTLED: {
            "transaction": transfer.transaction,
            "log_index": transfer.log_index,
            "settled_at": 1003.5,
        },
        State.REFUND_DUE: {"code": "STREAM_INTERRUPTED", "ended_at": 1004.0},
    }
    for state, known in facts.items():
        after = row.become(state, **known)
        worker.ledger.swap(row, after, sealed_payment=SEALED)
        row = after
    claim = bought(id="claim", claim_key="another", created_at=900.0)
    worker.ledger.claim(claim)
    worker.ledger.swap(claim, claim.become(State.RELEASED, code="CALLER_LEFT"))
    yield worker
    worker.database.close()


def spoil(data: Path, sql: str) -> None:
    with closing(sqlite3.connect(data / "x402jobs.sqlite3")) as connection:
        connection.executescript(sql)


# check


def test_a_ledger_in_good_order_is_said_to_be(x402jobs: Command, worker: SqliteStore) -> None:
    told = x402jobs("ledger", "check", **REAL)

    assert (told.returncode, told.stderr) == (0, "")
    assert json.loads(told.stdout) == {
        "executions": 2,
        "invariants": len(INVARIANTS),
        "broken": [],
    }
    assert len(told.stdout.splitlines()) == 1


def test_what_does_not_hold_is_named_with_its_rows_and_the_exit_code_says_so(
    x402jobs: Command, worker: SqliteStore, data: Path
) -> None:
    spoil(data, "UPDATE x402_executions SET settled_at = NULL, sealed_payment = 'sealed'")

    told = x402jobs("ledger", "check", **REAL)

    assert (told.returncode, told.stderr) == (1, "")
    assert json.loads(told.stdout)["broken"] == [
        {
            "name": "paid_has_transfer",
            "rule": INVARIANTS["paid_has_transfer"],
            "rows": ["debt"],
        },
        {
            "name": "payment_erased",
            "rule": INVARIANTS["payment_erased"],
            "rows": ["claim", "debt"],
        },
    ]


def test_play_money_is_checked_against_the_development_ledger(
    x402jobs: Command, worker: SqliteStore
) -> None:
    told = x402jobs("ledger", "check")

    said = json.loads(told.stdout)
    assert said["invariants"] == len(INVARIANTS) + len(PLAY_MONEY)
    assert [each["name"] for each in said["broken"]] == ["row_has_transfer"]


def test_a_shop_can_be_checked_while_it_sells(shop: Demo, shell: Command, tmp_path: Path) -> None:
    sold = shell("call", shop.template_url, "-p", "topic=rain", X402JOBS_DATA=str(shop.data))

    told = shell("ledger", "check", "--data", str(shop.data))

    assert (sold.returncode, told.returncode, told.stderr) == (0, 0, "")
    said = json.loads(told.stdout)
    assert said["executions"] >= 1 and said["broken"] == []


def test_on_a_terminal_the_check_is_one_sentence_or_a_table(
    worker: SqliteStore, data: Path
) -> None:
    command = (*X402JOBS, "ledger", "check", "--data", str(data))
    well, sentence = on_a_terminal(*command, **REAL, NO_COLOR="1")
    spoil(data, "UPDATE x402_executions SET settled_at = NULL")
    ill, table = on_a_terminal(*command, **REAL, NO_COLOR="1")

    assert (well, sentence) == (0, "2 executions, all invariants hold\n")
    assert ill == 1
    rule = INVARIANTS["paid_has_transfer"]
    assert table.splitlines() == [
        "invariant          rows  what must hold",
        f"paid_has_transfer  1     {rule}",
        "",
        "invariant          row",
        "paid_has_transfer  debt",
        "",
        f"2 executions, 1 of {len(INVARIANTS)} invariants do not hold",
    ]


def test_on_a_terminal_a_long_list_is_cut_and_says_so(worker: SqliteStore, data: Path) -> None:
    for number in range(25):
        claim = bought(id=f"e{number:02}", claim_key=f"c{number}")
        worker.ledger.claim(claim)
        worker.ledger.swap(claim, claim.become(State.RELEASED))
    spoil(data, "UPDATE x402_executions SET sealed_payment = 's' WHERE id LIKE 'e%'")

    _, said = on_a_terminal(*X402JOBS, "ledger", "check", "--data", str(data), **REAL)

    assert said.count("payment_erased  e") == 20
    assert "x402jobs: payment_erased: and 5 more\n" in said


@pytest.mark.parametrize(
    "words",
    [
        ("check",),
        ("list",),
        ("show", "debt"),
        ("refund", "debt", "--tx", PAID_OUT, "--yes"),
    ],
)
def test_where_there_is_no_directory_none_is_made(
    x402jobs: Command, data: Path, words: tuple[str, ...]
) -> None:
    told = x402jobs("ledger", *words)

    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == "x402jobs: there is no data directory .x402jobs.\n"
    assert not data.exists()


def test_a_store_that_cannot_be_read_is_no_ledger_in_good_order(
    x402jobs: Command, data: Path
) -> None:
    data.mkdir()
    (data / "x402jobs.sqlite3").write_text("This is not a database, and never was.")

    told = x402jobs("ledger", "check")

    assert (told.returncode, told.stdout) == (1, "")
    assert "cannot reach its database" in told.stderr


# list and show


def test_what_is_owed_can_be_listed(x402jobs: Command, worker: SqliteStore) -> None:
    told = x402jobs("ledger", "list", "--state", "refund_due")

    said = json.loads(told.stdout)
    assert (told.returncode, said["total"]) == (0, 1)
    assert [each["id"] for each in said["executions"]] == ["debt"]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ((), ["debt", "claim"]),
        (("--limit", "1"), ["debt"]),
        (("--template", "@ada/haiku"), ["debt", "claim"]),
        (("--template", "@ada/haiku", "--state", "released"), ["claim"]),
        (("--state", "completed"), []),
    ],
)
def test_a_list_is_the_newest_of_what_was_asked_for(
    x402jobs: Command, worker: SqliteStore, options: tuple[str, ...], ids: list[str]
) -> None:
    told = x402jobs("ledger", "list", *options)

    assert [each["id"] for each in json.loads(told.stdout)["executions"]] == ids


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("list", "--template", "@ada/hiaku"), 1, "There is no template @ada/hiaku."),
        (("list", "--template", "ada/haiku"), 2, "@user/slug, please."),
        (("list", "--state", "owed"), 2, "refund_due"),
        (("list", "--limit", "0"), 2, "--limit"),
        (("show", "nothing"), 1, "There is no execution nothing."),
        (("refund", "nothing", "--tx", PAID_OUT, "--yes"), 1, "There is no execution nothing."),
        (("refund", "debt"), 2, "--tx"),
        (("refund", "debt", "--tx", "0xabc", "--yes"), 2, "0x and 64 hexadecimal digits"),
        (("refund", "debt", "--tx", PAID_OUT), 2, "say --yes"),
        (("refund", "debt", "--tx", PAYMENT, "--yes"), 1, "is the payment itself"),
        (("refund", "claim", "--tx", PAID_OUT, "--yes"), 1, "Execution claim is released"),
        (("refund", "claim", "--tx", PAID_OUT), 1, "Execution claim is released"),
    ],
)
def test_what_cannot_be_done_is_explained_and_changes_nothing(
    x402jobs: Command,
    worker: SqliteStore,
    words: tuple[str, ...],
    code: int,
    sentence: str,
) -> None:
    before = json.loads(x402jobs("ledger", "list").stdout)

    told = x402jobs("ledger", *words)

    assert (told.returncode, told.stdout) == (code, "")
    assert sentence in told.stderr
    assert json.loads(x402jobs("ledger", "list").stdout) == before


def test_an_execution_is_shown_with_everything_but_what_is_sealed(
    x402jobs: Command, worker: SqliteStore, data: Path
) -> None:
    spoil(
        data,
        f"""UPDATE x402_executions SET sealed_payment = '{SEALED}';
        INSERT INTO x402_answers VALUES ('debt', '{SEALED}');""",
    )

    told = x402jobs("ledger", "show", "debt")

    said = json.loads(told.stdout)
    assert told.returncode == 0 and SEALED not in told.stdout
    assert {name: value for name, value in said.items() if value is not None} == {
        "id": "debt",
        "kind": "paid",
        "state": "refund_due",
        "code": "STREAM_INTERRUPTED",
        "template": "@ada/haiku",
        "templateId": HAIKU.id,
        "templateVersion": 1,
        "digest": "d1",
        "createdAt": "1970-01-01T00:16:40.250Z",
        "settledAt": "1970-01-01T00:16:43.500Z",
        "endedAt": "1970-01-01T00:16:44.000Z",
        "amountUsdc": "0.01",
        "payer": "0xada",
        "network": "eip155:31337",
        "validBefore": 1120,
        "claimKey": "eip3009:eip155:31337:0xd0:0xada:0x01",
        "transaction": PAYMENT,
        "logIndex": 0,
        "worker": "w1",
        "attempt": 1,
        "reruns": 0,
    }


def test_on_a_terminal_executions_are_tables(worker: SqliteStore, data: Path) -> None:
    where = ("--data", str(data))
    _, listed = on_a_terminal(*X402JOBS, "ledger", "list", "--limit", "1", *where, NO_COLOR="1")
    _, shown = on_a_terminal(*X402JOBS, "ledger", "show", "claim", *where, NO_COLOR="1")
    _, none = on_a_terminal(*X402JOBS, "ledger", "list", "--state", "settled", *where)

    head, row, rest = listed.splitlines()
    assert head.split() == "when template kind state usdc code payer id".split()
    assert row.split() == [
        "1970-01-01T00:16:40.250Z",
        "@ada/haiku",
        "paid",
        "refund_due",
        "0.01",
        "STREAM_INTERRUPTED",
        "0xada",
        "debt",
    ]
    assert rest == "x402jobs: 1 more; --limit shows them."
    assert ["state", "released"] in [line.split() for line in shown.splitlines()]
    assert none == "No executions.\n"


# refund


def test_a_pay_out_is_written_down_and_shown(x402jobs: Command, worker: SqliteStore) -> None:
    told = x402jobs("ledger", "refund", "debt", "--tx", PAID_OUT.replace("cd", "CD"), "--yes")
    again = x402jobs("ledger", "refund", "debt", "--tx", PAID_OUT, "--yes")
    unasked = x402jobs("ledger", "refund", "debt", "--tx", PAID_OUT)

    said = json.loads(told.stdout)
    assert (said["state"], said["refundTransaction"]) == ("refunded", PAID_OUT)
    for each in (told, again, unasked):
        assert (each.returncode, each.stderr, each.stdout) == (0, "", told.stdout)


def test_a_second_pay_out_of_one_debt_is_refused(x402jobs: Command, worker: SqliteStore) -> None:
    x402jobs("ledger", "refund", "debt", "--tx", PAID_OUT, "--yes")

    told = x402jobs("ledger", "refund", "debt", "--tx", "0x" + "ef" * 32, "--yes")

    assert (told.returncode, told.stdout) == (1, "")
    assert f"has been refunded already, in {PAID_OUT}." in told.stderr


@pytest.mark.parametrize(
    ("typed", "code", "state"), [("y\n", 0, "refunded"), ("n\n", 1, "refund_due")]
)
def test_on_a_terminal_a_pay_out_is_asked_about(
    x402jobs: Command,
    worker: SqliteStore,
    data: Path,
    typed: str,
    code: int,
    state: str,
) -> None:
    refund = (*X402JOBS, "ledger", "refund", "debt", "--tx", PAID_OUT, "--data", str(data))

    ended, said = on_a_terminal(*refund, question="[y/N]", typed=typed, NO_COLOR="1")

    assert (ended, json.loads(x402jobs("ledger", "show", "debt").stdout)["state"]) == (code, state)
    assert f"0.01 USDC to 0xada on eip155:31337 in {PAID_OUT}?" in said
    assert ("Nothing was written down." in said) is (code == 1)
