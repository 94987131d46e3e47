"""The operator's commands over a Supabase project, as a person runs them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import origin
from tests.adapters.test_secret_box import entry
from tests.cli.conftest import Command
from tests.cli.conftest import shell as shell  # noqa: PLC0414
from tests.contract.conftest import HAIKU, SupabaseStore, bought
from tests.supabase.rig import Rig
from x402jobs.adapters.key_ring import KeyRing
from x402jobs.adapters.secret_box import RingSecretBox
from x402jobs.adapters.supabase.database import Database
from x402jobs.domain.errors import StoreUnavailable
from x402jobs.domain.execution import State
from x402jobs.domain.invariants import INVARIANTS
from x402jobs.domain.secret import Secret
from x402jobs.ports import SealedValue
from x402jobs.services.integrations import claude_key_place

OLD, BOTH = entry("k1", 1), f"{entry('k2', 2)},{entry('k1', 1)}"
PAYMENT, PAID_OUT = "0x" + "ab" * 32, "0x" + "cd" * 32
KEY, PROMPT = "sk-ant-planted-key", "The origin's planted prompt."
REAL = {"FACILITATOR_URL": "https://facilitator.example", "X402_NETWORKS": "eip155:8453"}


@pytest.fixture
def store(rig: Rig) -> Iterator[Any]:
    """ada's key is sealed with k1, bob's as the origin had it, and so is ada's prompt; a debt."""
    store: Any = SupabaseStore(rig)
    store.ada, store.bob = (store.catalogue.add_user(name) for name in ("ada", "bob"))
    box = RingSecretBox(KeyRing(OLD))
    store.keys.put_claude_key(store.ada, box.seal(KEY, claude_key_place(store.ada)))
    store.keys.put_claude_key(store.bob, origin.VECTOR)
    store.catalogue.add_template(replace(HAIKU, owner_id=store.ada, sealed_prompt=PROMPT))
    row = store.ledger.claim(bought(id="debt"))
    for state in (State.SETTLING, State.SETTLED, State.REFUND_DUE):
        facts = {"transaction": PAYMENT, "log_index": 0, "settled_at": 1003.5}
        after = row.become(state, **facts if state is State.SETTLED else {})
        store.ledger.swap(row, after)
        row = after
    yield store
    store.close()


@pytest.fixture
def project(rig: Rig) -> dict[str, str]:
    """What an operator's environment holds."""
    ring = {"X402JOBS_KEYS": BOTH, "INTEGRATION_ENCRYPTION_SECRET": origin.SECRET}
    return rig.environment | ring | REAL


def test_what_the_origin_has_left_and_what_is_under_an_old_key_is_sealed_anew(
    shell: Command, store: Any, project: dict[str, str], tmp_path: Path
) -> None:
    before = shell("keys", "status", **project)
    rotated = shell("keys", "rotate", **project)
    after = shell("keys", "status", **project | {"X402JOBS_KEYS": entry("k2", 2)})

    assert [each.returncode for each in (before, rotated, after)] == [0, 0, 0]
    assert [each.stderr for each in (before, rotated, after)] == [""] * 3
    assert json.loads(before.stdout)["old"] == 3
    told = json.loads(rotated.stdout)
    assert (told["resealed"], told["old"], told["unreadable"]) == (3, 0, [])
    assert json.loads(after.stdout)["unreadable"] == []
    assert [each for each in (KEY, PROMPT) if each in rotated.stdout + before.stdout] == []
    assert list(tmp_path.iterdir()) == [], "nothing was made where the command ran"
    assert PROMPT not in str(store.catalogue.template(store.ada, HAIKU.id))


def test_a_debt_is_looked_for_and_paid_out(
    shell: Command, store: Any, project: dict[str, str]
) -> None:
    checked = shell("ledger", "check", **project)
    listed = shell("ledger", "list", "--template", "@ada/haiku", **project)
    refunded = shell("ledger", "refund", "debt", "--tx", PAID_OUT, "--yes", **project)
    shown = shell("ledger", "show", "debt", **project)

    counts = {"executions": 1, "invariants": len(INVARIANTS), "broken": []}
    assert json.loads(checked.stdout) == counts
    assert [each["id"] for each in json.loads(listed.stdout)["executions"]] == ["debt"]
    assert json.loads(refunded.stdout) == json.loads(shown.stdout)
    said = json.loads(shown.stdout)
    assert (said["state"], said["refundTransaction"]) == ("refunded", PAID_OUT)


def test_what_does_not_hold_ends_the_check_with_1(
    shell: Command, store: Any, project: dict[str, str], rig: Rig
) -> None:
    rig.sql("update x402_executions set settled_at = null")

    checked = shell("ledger", "check", **project)

    assert checked.returncode == 1
    (found,) = json.loads(checked.stdout)["broken"]
    assert (found["name"], found["rows"]) == ("paid_has_transfer", ["debt"])


def test_an_internal_key_is_of_an_account_of_the_project(
    shell: Command, store: Any, project: dict[str, str], rig: Rig
) -> None:
    asked = ("keys", "internal", "ada", "--purpose", "tools")
    first, again = (shell(*asked, **project) for _ in range(2))
    nobodys = shell("keys", "internal", "eve", "--purpose", "tools", **project)

    assert first.stdout.startswith("xi_") and again.stdout == first.stdout
    assert (nobodys.returncode, nobodys.stdout) == (1, "")
    assert f"there is no user eve in the project {rig.url}: accounts are made" in nobodys.stderr
    assert "user add" not in nobodys.stderr


def test_without_a_ring_in_the_environment_the_directory_must_have_one(
    shell: Command, store: Any, project: dict[str, str], tmp_path: Path
) -> None:
    bare = {name: text for name, text in project.items() if name != "X402JOBS_KEYS"}

    refused, listed = shell("keys", "status", **bare), shell("ledger", "list", **bare)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert "no data directory .x402jobs with a key ring; X402JOBS_KEYS is not set" in refused.stderr
    assert (listed.returncode, json.loads(listed.stdout)["total"]) == (0, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_check_looks_for_play_money_where_there_is_some(
    shell: Command, store: Any, project: dict[str, str], tmp_path: Path
) -> None:
    play = {name: text for name, text in project.items() if name not in REAL}

    nowhere = shell("ledger", "check", **play)
    (tmp_path / ".x402jobs").mkdir()
    checked = shell("ledger", "check", **play)

    assert (nowhere.returncode, nowhere.stdout) == (1, "")
    assert "with play money; FACILITATOR_URL is not set" in nowhere.stderr
    (found,) = json.loads(checked.stdout)["broken"]
    assert found["name"] == "row_has_transfer"


@pytest.mark.parametrize("words", [("keys", "status"), ("ledger", "check"), ("ledger", "list")])
def test_a_project_that_cannot_be_asked_is_no_answer(
    shell: Command, project: dict[str, str], words: tuple[str, ...]
) -> None:
    told = shell(*words, **project | {"SUPABASE_URL": "http://127.0.0.1:9"})

    assert (told.returncode, told.stdout) == (1, "")
    assert "cannot reach its database" in told.stderr
    assert "sb_secret" not in told.stderr


# what is behind them


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("x402_sessions", "digest"),
        ("x402_executions", "payer"),
        ("profiles", "username"),
        ("x402_peppers; drop table x402_peppers", "sealed_pepper"),
        ("", ""),
    ],
)
def test_no_column_but_the_sealed_ones_can_be_named(
    store: Any, rig: Rig, table: str, column: str
) -> None:
    with pytest.raises(StoreUnavailable):
        store.sealed.page(table, column, "", 10)
    with pytest.raises(StoreUnavailable):
        store.sealed.replace(table, column, [(SealedValue("debt", "debt", "0xada"), "0xeve")])

    assert rig.sql("select payer, (select count(*) from x402_peppers) as n from x402_executions")


@pytest.mark.parametrize(
    ("table", "column"),
    [("x402_executions", "sealed_payment"), ("x402_resources", "pt_system_prompt")],
)
def test_nothing_is_no_replacement_even_where_the_column_takes_it(
    store: Any, rig: Rig, table: str, column: str
) -> None:
    rig.sql("update x402_executions set state = 'settling', sealed_payment = 'sealed'")
    (value,) = store.sealed.page(table, column, "", 10)

    with pytest.raises(StoreUnavailable):
        store.sealed.replace(table, column, [(value, None)])

    assert store.sealed.page(table, column, "", 10) == [value]


@pytest.mark.parametrize(("again", "done"), [(False, 0), (True, 1)])
def test_a_replacement_that_is_asked_for_again_counts_what_it_has_done_already(
    store: Any, rig: Rig, again: bool, done: int
) -> None:
    column = ("x402_user_claude_configs", "api_key_encrypted")
    first, second = store.sealed.page(*column, "", 10)
    assert store.sealed.replace(*column, [(first, "ours")]) == 1
    fresh = [
        {"row": first.row, "before": first.sealed, "after": "ours"},
        {"row": second.row, "before": "of long ago", "after": "ours too"},
    ]

    database = Database(rig.url, Secret(rig.secret_key))
    answer = database.call(
        "x402_sealed_replace",
        in_table=column[0],
        in_column=column[1],
        fresh=json.dumps(fresh),
        again=again,
    )
    database.close()

    assert answer == done


def test_a_prompt_is_its_sellers_whatever_its_row_says_beside(store: Any, rig: Rig) -> None:
    """The origin's servers say who sells; the catalogue opens a prompt for that account."""
    rig.sql("update x402_resources set registered_by = %s", store.bob)

    (value,) = store.sealed.page("x402_resources", "pt_system_prompt", "", 10)

    sold = store.catalogue.listing("ada", "haiku", None).template
    assert (value.owner, sold.owner_id) == (store.ada, store.ada)


def test_a_prompt_that_nobody_sells_is_looked_at_too(store: Any, rig: Rig) -> None:
    rig.sql("update x402_resources set server_id = null, slug = null")

    (value,) = store.sealed.page("x402_resources", "pt_system_prompt", "", 10)

    assert (value.row, value.owner) == (HAIKU.id, store.ada)


def test_what_the_origin_sells_otherwise_is_none_of_our_findings(store: Any, rig: Rig) -> None:
    rig.sql("update x402_resources set price_usdc = null")
    assert store.audit.findings(30, 600).broken["money_is_integer"] == []

    rig.sql("update x402_resources set price_usdc = -1")
    assert store.audit.findings(30, 600).broken["money_is_integer"] == [HAIKU.id]

    rig.sql("update x402_resources set resource_type = 'external'")
    assert store.audit.findings(30, 600).broken["money_is_integer"] == []
