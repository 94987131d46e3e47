"""The simulator finds what it should, finds nothing in the product, and its ledger is the store's.

It runs in processes of its own: it puts other clocks and threads under the services.
"""

import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.conftest import HAIKU, PATIENT, SqliteStore, bought
from tests.simulator.ledger import ModelLedger
from x402jobs.domain.errors import StoreUnavailable, Superseded, TransferUsed
from x402jobs.domain.execution import MAY_FOLLOW, State

ROOT = Path(__file__).parent.parent
HISTORIES = 1500
CAUGHT_BY = {
    "claim_not_unique": "one row per claim",
    "no_fence": "the fence never falls",
    "lost_answer_is_failure": "paid means answered or owed",
    "truncated_is_complete": "completed means that Claude's end marker was seen",
    "no_take_over": "everything ends",
    "held_for_ever": "everything ends",
    "double_rerun": "one run, and one for each re-run recorded",
    "older_leave_hides_newer": "paid means answered or owed",
    "refusal_without_the_row": "no fresh 402 while unknown or paid",
}


def simulator(*arguments, hashing="random"):
    return subprocess.run(
        [sys.executable, "-m", "tests.simulator", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hashing},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_no_history_breaks_a_promise_about_money():
    told = simulator("--histories", str(HISTORIES), "--workers", "1", "--seed", "smoke")

    assert (told.returncode, told.stderr) == (0, ""), told.stdout
    assert f"{HISTORIES:,} histories" in told.stdout
    assert "0 broken; with 95 % confidence fewer than 2.0e-03" in told.stdout
    visited, pairs = re.search(r"(\d+) of (\d+) pairs visited", told.stdout).groups()
    assert int(visited) > 0.8 * int(pairs)


def test_each_planted_bug_is_caught_by_the_check_that_is_there_for_it():
    told = simulator("--mutants", "--seed", "smoke")

    caught = dict(line.split(": ", 1) for line in told.stdout.splitlines())
    assert told.returncode == 0, told.stdout + told.stderr
    assert caught.keys() == CAUGHT_BY.keys()
    assert [name for name, check in CAUGHT_BY.items() if check not in caught[name]] == []


def test_a_seed_tells_the_same_history_again_step_by_step():
    one, again = (simulator("--replay", "smoke:8", hashing=each) for each in ("1", "2"))

    assert "hears" in one.stdout
    assert (one.returncode, one.stdout) == (again.returncode, again.stdout)


# the model ledger is the embedded store's


class Both:
    """The model and the embedded store, which are told the same and asked the same."""

    def __init__(self, store):
        self.store = store
        self.model = ModelLedger(store.now)

    def __call__(self, ask):
        said = [self._say(ask, ledger) for ledger in (self.model, self.store.ledger)]
        assert said[0] == said[1]
        return said[0]

    def _say(self, ask, ledger):
        try:
            return ask(ledger)
        except (StoreUnavailable, Superseded, TransferUsed) as error:
            return type(error)

    def unseen(self, worker, seconds):
        self.store.unseen(worker, seconds)
        self.model.seen[worker] = self.store.now() - seconds

    def agree(self, claim_keys):
        for key in claim_keys:
            row = self.store.catalogue.listing("nobody", "nothing", key).earlier
            assert self.model.earlier(key) == row
            if row is not None:
                assert self.model.payments.get(row.id) == self.store.column(row, "sealed_payment")
                assert self.model.sealed_answer(row) == self.store.ledger.sealed_answer(row)


@pytest.fixture
def both(tmp_path):
    store = SqliteStore(tmp_path / "data")
    store.ada = store.catalogue.add_user("ada")
    store.catalogue.add_template(replace(HAIKU, owner_id=store.ada))
    yield Both(store)
    store.close()


def step(draw, rows, now):
    """Something to ask a ledger: mostly what is lawful, at times what is late or impossible."""
    row = draw.choice(rows)
    match draw.choice(["swap"] * 6 + ["claim"] * 3 + ["take over", "purge"]):
        case "claim":
            changes = {"id": f"e{draw.random()}", "claim_key": f"c{draw.randrange(4)}"}
            created_at = now - draw.choice((1, 30, 30)) - draw.random()
            claim = bought(**changes, worker=f"w{draw.randrange(3)}", created_at=created_at)
            return lambda ledger: ledger.claim(claim)
        case "take over":
            worker, limit = f"w{draw.randrange(3)}", draw.choice((1, 9))
            left = {each.id: each.attempt for each in draw.sample(rows, min(2, len(rows)))}
            limits = {name: draw.choice((20.0, 1e10)) for name in PATIENT}
            return lambda ledger: sorted(
                ledger.take_over(worker, left, limit, **limits), key=lambda taken: taken[0].id
            )
        case "purge":
            later = now + draw.choice((0, 90_000))
            return lambda ledger: ledger.purge(later)
    # Unlawful steps too, which a ledger does not judge; an answer's row is never released, though.
    state = draw.choice([*MAY_FOLLOW[row.state]] * 4 + [*State])
    if row.state is State.COMPLETED:
        state = row.state
    facts = {"ended_at": now - draw.choice((0, 5)), "opened_at": draw.choice((None, now))}
    if draw.random() < 0.8:
        facts |= {"transaction": "0x1", "log_index": draw.choice((None, *range(9)))}
    after = replace(row, state=state, reruns=draw.choice((0, 0, 0, 1, 4)), **facts)
    before = replace(row, attempt=row.attempt + draw.choice((0, 0, 0, 0, 1)))
    answer = "sealed" if state is State.COMPLETED else None
    return lambda ledger: ledger.swap(
        before, after, sealed_payment=f"for {state}", sealed_answer=answer
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_model_of_the_ledger_does_what_the_embedded_store_does(both, seed):
    draw, now = random.Random(seed), both.store.now()
    keys = [f"c{number}" for number in range(4)]
    outcomes = set()
    both(lambda ledger: ledger.claim(bought(claim_key="c0", created_at=now)))
    for _ in range(120):
        if draw.random() < 0.2:
            both.unseen(f"w{draw.randrange(3)}", draw.choice((0, 0, 60)))
        rows = list(both.model.rows.values()) or [bought()]
        outcome = both(step(draw, rows, now))
        outcomes.add(outcome if isinstance(outcome, type) else type(outcome).__name__)
        both.agree(keys)

    assert outcomes >= {"Execution", "NoneType", "list", "int", Superseded, StoreUnavailable}
