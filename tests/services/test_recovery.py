"""Rows that nobody works on any more, over the real store."""

import json
import threading
import time
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from tests.contract.conftest import HAIKU, PATIENT, SqliteStore, bought, earlier, walked
from tests.fakes import FakeChain, FakeClock, FakeFacilitator, PlainBox
from tests.services.test_paygate import PAYMENT
from tests.services.test_settlement import BLIND, LOST, MOVED
from x402jobs import metrics
from x402jobs.domain.errors import StoreUnavailable
from x402jobs.domain.execution import State
from x402jobs.domain.networks import DEVELOPMENT, Networks
from x402jobs.domain.payment import PaymentRequirements
from x402jobs.ports import Canceled
from x402jobs.services import caretaker
from x402jobs.services.caretaker import Caretaker
from x402jobs.services.left_rows import LeftRows
from x402jobs.services.recovery import (
    INTERRUPTED,
    LONGEST_PAUSE_SECONDS,
    OVERDUE_SECONDS,
    Recovery,
)
from x402jobs.services.runs import Runs
from x402jobs.services.settlement import Settlement
from x402jobs.services.settlement import payment_place as place

OPENING, RUN = 1e10, 2e10
"""The rows of these tests are from 1970, and yet not to be overdue."""


class Bench:
    """Worker w2 over a store in which w1 has left a row."""

    def __init__(self, store):
        self.store, self.ledger, self.clock = store, store.ledger, FakeClock()
        self.facilitator, self.left = FakeFacilitator(settles=LOST), LeftRows(self.clock)
        self.chain = FakeChain(self.clock, [BLIND])
        settlement = Settlement(
            ledger=self.ledger,
            facilitator=self.facilitator,
            chain=self.chain,
            box=PlainBox(),
            clock=self.clock,
            networks=Networks((DEVELOPMENT,)),
            left=self.left,
        )
        self.recovery = Recovery(
            ledger=self.ledger,
            settlement=settlement,
            left=self.left,
            clock=self.clock,
            worker="w2",
            opening_seconds=OPENING,
            run_seconds=RUN,
        )

    def settling(self):
        """A row whose worker was killed while it asked for the money."""
        claimed = walked(self.store)
        asked = PaymentRequirements(DEVELOPMENT, 10_000, PAYMENT.pay_to)
        sealed = PlainBox().seal(json.dumps(PAYMENT.as_json(asked)), place(claimed.id))
        row = claimed.become(State.SETTLING)
        self.ledger.swap(claimed, row, sealed_payment=sealed)
        return row

    def round(self):
        """How many rows a round has brought to their ends."""
        before = self.open
        for hand in self.recovery.round():
            hand.join(10)
        return before - self.open

    @property
    def open(self):
        """How many rows have not ended."""
        rows = self.ledger._database.read("SELECT state FROM x402_executions")
        return sum(row["state"] in (State.CLAIMED, State.SETTLING, State.SETTLED) for row in rows)

    @property
    def row(self):
        return earlier(self.store)


@pytest.fixture
def bench(tmp_path):
    store = SqliteStore(tmp_path / "data")
    store.ada = store.catalogue.add_user("ada")
    store.catalogue.add_template(replace(HAIKU, owner_id=store.ada))
    yield Bench(store)
    store.close()


def test_a_claim_is_released(bench):
    walked(bench.store)
    bench.store.unseen("w1", 16)

    assert bench.round() == 1

    assert (bench.row.state, bench.row.code, bench.row.attempt) == ("released", INTERRUPTED, 2)


def test_a_paid_answer_that_broke_off_becomes_a_debt_with_its_receipt(bench):
    walked(bench.store, State.SETTLING, State.SETTLED)
    bench.store.unseen("w1", 16)

    assert bench.round() == 1

    assert (bench.row.state, bench.row.code) == (State.REFUND_DUE, INTERRUPTED)
    assert (bench.row.receipt.transaction, bench.row.credit.reruns_left) == ("0x1", 3)


def test_money_that_moved_unheard_becomes_a_debt(bench):
    bench.settling()
    bench.store.unseen("w1", 16)
    bench.chain.shows = [MOVED]

    assert bench.round() == 1

    assert (bench.row.state, bench.row.transaction) == (State.REFUND_DUE, "0xchains")
    assert bench.store.column(bench.row, "sealed_payment") is None


def test_money_that_will_never_move_is_released(bench):
    bench.settling()
    bench.store.unseen("w1", 16)
    bench.chain.shows = [Canceled()]

    assert bench.round() == 1

    assert bench.row.state is State.RELEASED


def test_what_cannot_be_decided_stays_settling_and_is_looked_at_again(bench):
    bench.settling()
    bench.store.unseen("w1", 16)

    assert bench.round() == 0
    assert bench.row.state is State.SETTLING
    looks = bench.chain.looks
    bench.ledger.beat("w2")
    assert (bench.round(), bench.chain.looks) == (0, looks), "not before a pause"

    bench.clock.advance(LONGEST_PAUSE_SECONDS)  # the row is as old as can be
    bench.chain.shows = [MOVED]

    assert bench.round() == 1
    assert bench.row.state is State.REFUND_DUE


def test_a_row_of_ones_own_is_taken_up_once_it_is_left(bench):
    row = walked(bench.store, State.SETTLING, State.SETTLED)
    bench.recovery._worker = "w1"
    bench.ledger.beat("w1")
    assert bench.round() == 0

    bench.left.leave(row)

    assert bench.round() == 1
    assert bench.row.state is State.REFUND_DUE
    assert bench.left.due() == {}


@pytest.mark.parametrize(
    ("states", "seconds", "ending"),
    [
        ((), OPENING, State.RELEASED),
        ((State.SETTLING, State.SETTLED), RUN, State.REFUND_DUE),
    ],
)
def test_what_nobody_can_be_working_on_is_ended_although_its_worker_beats(
    bench, states, seconds, ending
):
    row = walked(bench.store, *states)
    bench.ledger.beat("w1")
    now = bench.store.now()
    young = replace(row, created_at=now - seconds - OVERDUE_SECONDS + 20)
    bench.ledger.swap(row, young)
    assert bench.round() == 0

    bench.ledger.swap(young, replace(row, created_at=now - seconds - OVERDUE_SECONDS - 1))

    assert bench.round() == 1
    assert (bench.row.state, bench.row.code) == (ending, INTERRUPTED)


def test_a_row_that_has_ended_meanwhile_is_forgotten(bench):
    row = walked(bench.store, State.SETTLING, State.SETTLED)
    bench.left.leave(row)
    bench.ledger.swap(row, row.become(State.COMPLETED))

    assert bench.round() == 0

    assert bench.row.state is State.COMPLETED
    assert bench.left.due() == {}


def test_a_fault_nobody_foresaw_does_not_stop_the_other_rows(bench):
    bench.settling()
    other = bench.ledger.claim(bought(id="e2", claim_key="other"))
    bench.store.unseen("w1", 16)
    bench.facilitator.settles = RuntimeError("planted")
    bench.chain.shows = [BLIND]

    assert bench.round() == 1

    assert bench.row.state is State.SETTLING
    assert earlier(bench.store, other.claim_key).state is State.RELEASED


def test_a_facilitator_that_does_not_answer_holds_up_no_other_row(bench):
    bench.settling()
    other = bench.ledger.claim(bought(id="e2", claim_key="other", created_at=2000.0))
    bench.store.unseen("w1", 16)
    answers = threading.Event()
    bench.facilitator.settle = lambda *_: answers.wait(10) and LOST

    slow, quick = bench.recovery.round()
    quick.join(10)

    assert earlier(bench.store, other.claim_key).state is State.RELEASED
    assert slow.is_alive()
    answers.set()
    slow.join(10)


# The caretaker


@pytest.fixture
def hurry(monkeypatch):
    monkeypatch.setattr(caretaker, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(caretaker, "BEAT_SECONDS", 0.02)


class RealTime:
    now, monotonic = staticmethod(time.time), staticmethod(time.monotonic)


@pytest.fixture
def tended(bench, hurry):
    """A caretaker at work; `alive` is what the server says of itself."""
    runs = Runs(bench.ledger, PlainBox(), RealTime(), bench.left)
    keeper = Caretaker(
        ledger=bench.ledger, recovery=bench.recovery, runs=runs, clock=RealTime(), worker="w2"
    )
    bench.alive, bench.runs = True, runs
    keeper.start(lambda: bench.alive, grace_seconds=caretaker.DRAIN_MARGIN_SECONDS)
    yield bench
    keeper.stop()
    until = time.monotonic() + 5
    while any(each.name.startswith("caretaker") for each in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)


def eventually(condition):
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_worker_is_known_before_its_first_request(bench):
    idle = Caretaker(
        ledger=bench.ledger,
        recovery=bench.recovery,
        runs=Runs(bench.ledger, PlainBox(), RealTime(), bench.left),
        clock=RealTime(),
        worker="w2",
    )

    idle.start(lambda: True, 300)
    idle.stop()

    assert bench.ledger.purge(0.0) == 0
    bench.store.unseen("w2", 90_000)
    assert bench.ledger.purge(0.0) == 1


def test_what_another_worker_leaves_is_found_beside_the_requests(tended):
    tended.store.unseen("w1", 0)
    walked(tended.store, State.SETTLING, State.SETTLED)
    tended.store.unseen("w1", 16)

    eventually(lambda: tended.row.state is State.REFUND_DUE)


def test_a_beat_does_not_wait_for_a_recovery(tended, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(tended.recovery, "round", lambda: gate.wait(5) and 0)
    tended.store.unseen("w2", 100)

    eventually(
        lambda: (
            tended.ledger.take_over("w3", {}, 9, **PATIENT) == [] and not is_unseen(tended.store)
        )
    )

    gate.set()


def is_unseen(store):
    sql = "SELECT seen_at FROM x402_workers WHERE id = 'w2'"
    return store.now() - store._ask(sql)[0][0] > 50


def test_a_store_that_is_away_or_a_fault_does_not_end_it(tended, monkeypatch):
    troubles = [StoreUnavailable(), RuntimeError("planted")] * 3
    real = tended.ledger.beat

    def beat(worker):
        if troubles:
            raise troubles.pop()
        real(worker)

    tended.store.unseen("w2", 100)
    monkeypatch.setattr(tended.ledger, "beat", beat)

    eventually(lambda: not troubles and not is_unseen(tended.store))


def test_once_the_server_ends_nothing_new_is_taken_and_what_is_left_is_drained(tended):
    drained = []
    tended.runs.drain = lambda: drained.append(True)
    tended.runs.check_open()

    tended.alive = False

    eventually(lambda: drained)
    with pytest.raises(Exception, match="restarting"):
        tended.runs.check_open()


# What is counted of it


def figure(name, **labels):
    return REGISTRY.get_sample_value(f"x402jobs_{name}", labels) or 0.0


@pytest.mark.parametrize(
    ("shows", "outcome", "moved"),
    [(MOVED, "refund_due", 10_000), (Canceled(), "released", 0), (BLIND, "undecided", 0)],
)
def test_what_became_of_a_row_that_was_taken_over_is_counted(bench, shows, outcome, moved):
    bench.settling()
    bench.store.unseen("w1", 16)
    bench.chain.shows = [shows]
    network, before = DEVELOPMENT.id, figure("rows_taken_over_total", outcome=outcome)
    money = figure("settled_micro_usdc_total", network=network)

    bench.round()

    assert figure("rows_taken_over_total", outcome=outcome) == before + 1
    assert figure("settled_micro_usdc_total", network=network) == money + moved


def test_what_waits_for_somebody_is_told_beside_the_requests(bench, hurry, request):
    walked(bench.store, State.SETTLING, State.SETTLED, State.REFUND_DUE)
    request.getfixturevalue("tended")

    eventually(lambda: figure("refunds_due") == 1)

    assert figure("unknown_settlements") == figure("oldest_unknown_settlement_seconds") == 0
    assert figure("ledger_seen_timestamp_seconds") > time.time() - 60


def test_a_worker_that_drains_says_so(tended):
    metrics.DRAINING.set(0)  # another test's worker may have, in this process

    tended.alive = False

    eventually(lambda: figure("draining") == 1)
