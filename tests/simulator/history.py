"""One history: who comes, what breaks, and how it has to end."""

from collections import Counter
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar

from greenlet import getcurrent

from tests.fakes import NOW
from tests.simulator.checks import Checks
from tests.simulator.ledger import ModelCatalogue, ModelLedger
from tests.simulator.pairs import UNKNOWN
from tests.simulator.peers import FORGED, SIGNED, Case, ModelChain
from tests.simulator.schedule import Process, Schedule
from tests.simulator.worker import BOX, LOG, RUN_SECONDS, Line, Worker
from x402jobs.domain.call import Call
from x402jobs.domain.errors import Conflict, StoreUnavailable, X402JobsError
from x402jobs.domain.events import Done
from x402jobs.domain.execution import State
from x402jobs.domain.listing import StoredTemplate
from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.domain.payment import Authorization, Payment
from x402jobs.ports import Canceled, SpentElsewhere
from x402jobs.services.audit import Audit
from x402jobs.services.integrations import claude_key_place
from x402jobs.services.templates import prompt_place

Item = TypeVar("Item")

PAY_TO = "0x" + "00" * 19 + "0a"
PRICE = 10_000
TEMPLATE = StoredTemplate(
    id="t1",
    version=1,
    owner_id="ada",
    username="ada",
    slug="haiku",
    name="Haiku",
    description="",
    price=PRICE,
    sealed_prompt=BOX.seal("Write a haiku.", prompt_place("ada")),
    parameters="[]",
    model="claude",
    max_tokens=100,
    allows_user_message=True,
    network=DEVELOPMENT.id,
    created_at=0.0,
    updated_at=0.0,
)
KEY = BOX.seal("sk-ant-demo", claude_key_place("ada"))
DAY = 24 * 3600.0
SETTLING_DOWN_SECONDS = 120.0
"""What spec/money.md allows beyond a payment's own window and a run's own limit."""
MISHAPS = ("crash before", "crash after", "still before", "still after")
STORE_MISHAPS = ("store down", "store answer lost", "store late", *MISHAPS)


class History:
    """Everything that happens is drawn from the one seed."""

    def __init__(self, seed: str, counts: Counter[str], pairs: set[tuple[str, str]]) -> None:
        random = Random(seed)
        self.draw = random.random
        self.schedule = Schedule(random, NOW)
        self.counts, self.pairs = counts, pairs
        self.rough = self.pick((0.0, 0.01, 0.02, 0.05, 0.1))
        self.is_rough = True
        self.cases: list[Case] = []
        self.by_claim: dict[str, Case] = {}
        self.by_nonce: dict[tuple[str, str], Case] = {}
        self.chain = ModelChain(self.schedule, self.pick((0.0, 2.0, 6.0, 12.0)), self._moved)
        self.ledger = ModelLedger(lambda: self.schedule.now, self._wrote)
        self.catalogue = ModelCatalogue(self.ledger, TEMPLATE, KEY, PAY_TO)
        self.checks = Checks(self)
        self.workers: list[Worker] = []
        self.coming = 0
        """What the story still has in store."""
        self._births = 0

    # the story

    def tell(self) -> None:
        """Rough weather, calm, an end that is looked at, and at times a day later."""
        for number in range(self.pick((1, 1, 1, 2, 2, 3))):
            self._case(number)
        for _ in range(self.pick((2, 2, 2, 3))):
            self._open()
        storm = 4 + self.draw() ** 2 * 60
        self._plan(storm)
        self.schedule.run(self._is_over, NOW + storm)
        self._calm()
        longest = max(case.payment.authorization.valid_before for case in self.cases)
        decided = max(longest + self.chain.finality, self.schedule.now + RUN_SECONDS)
        self.schedule.run(self._is_over, decided + SETTLING_DOWN_SECONDS)
        self.checks.at_rest()
        if not self.checks.broken:
            goes_on = self.draw() < 0.1
            if not goes_on or self.draw() < 0.5:
                self._come_back("present", "returned")
            if goes_on:
                self._a_day_later()
        for worker in self.workers:
            if not worker.process.is_dead:
                self.schedule.kill(worker.process)
        self.schedule.run(lambda: self.schedule.actors == 0, self.schedule.now)
        self.checks.nothing_broke(LOG.broken)
        LOG.broken.clear()

    def _case(self, number: int) -> None:
        payer, nonce = f"0x{number:040x}", f"0x{number:064x}"
        lives = self.pick((120, 120, 90, 65, 58))
        signed = Authorization(payer, PAY_TO, PRICE, 0, int(NOW) + lives, nonce)
        payment = Payment(
            signed, SIGNED, "exact", DEVELOPMENT.id, DEVELOPMENT.token, str(PRICE), PAY_TO
        )
        case = Case(number, payment)
        self.cases.append(case)
        self.by_claim[payment.claim_key] = case
        self.by_nonce[payer, nonce] = case

    def _plan(self, storm: float) -> None:
        draw = self.draw
        for case in self.cases:
            first = draw() * 2
            for _ in range(self.pick((1, 1, 1, 2, 2, 3))):
                at = first + (draw() * 0.05 if draw() < 0.5 else draw() * storm)
                self._later(at, lambda case=case: self._present(case))
            if draw() < 0.1:
                self._later(draw() * storm, lambda case=case: self._make_void(case))
            for _ in range(self.pick((0, 0, 0, 1, 3))):
                self._later(draw() * storm, lambda case=case: self._pay_out(case))
        for chance, happens in (
            (0.15, self._edit),
            (0.1, self._delete),
            (0.15, self._stop),
            (0.1, self._crash),
            (0.1, self._stand_still),
            (0.1, self._lose_node),
            (0.1, self._purge),
        ):
            if draw() < chance:
                self._later(draw() * storm, happens)

    def _later(self, seconds: float, do: Any) -> None:
        self.coming += 1

        def happen() -> None:
            self.coming -= 1
            do()

        self.schedule.at(self.schedule.now + seconds, happen)

    def _calm(self) -> None:
        """Every peer is well from now on, and nobody dies any more."""
        self.schedule.say("calm")
        self.rough, self.is_rough, self.chain.is_away = 0.0, False, False

    def _is_over(self) -> bool:
        return not (self.coming or self.schedule.actors or self.ledger.open or self.chain.landing)

    def _come_back(self, event: str, as_what: str) -> None:
        """Whoever has paid presents the payment again: their answer, or what has become of it."""
        for case in self.cases:
            row = self.ledger.earlier(case.payment.claim_key)
            if case.transfer is None or row is None:
                continue
            same = row.digest == _call(case, same=True).digest
            for _ in range(5):
                reply = SimpleNamespace(code=None, text="")
                worker = next(each for each in self.workers if each.is_open)
                self.note(case, event)
                self._enter(worker, case, same, forged=False, reply=reply)
                self.schedule.run(self._is_over, self.schedule.now + 200)
                if reply.code != "IN_PROGRESS":
                    break
            self.checks.came_back(case, row, reply)
            self.counts[as_what] += 1

    def _a_day_later(self) -> None:
        self.schedule.now += DAY + 3600
        self.schedule.say("a day later")
        for worker in self.workers:
            if not worker.process.is_dead:
                self.ledger.beat(worker.process.name)
        for case in self.cases:
            self.note(case, "a day passes")
        self.ledger.purge(self.schedule.now)
        self.checks.purged()
        self._come_back("present after a day", "returned after a day")

    # callers

    def _present(self, case: Case, tries: int = 2) -> None:
        draw = self.draw()
        same, forged = draw < 0.82, draw > 0.95
        self._arrive(case, same, forged, tries)

    def _arrive(self, case: Case, same: bool, forged: bool, tries: int) -> None:
        open_ = [worker for worker in self.workers if worker.is_open]
        if not open_:
            self._later(1.0, lambda: self._arrive(case, same, forged, tries))
            return
        self.note(case, "forged" if forged else "present" if same else "present with another body")
        self._enter(self.pick(open_), case, same, forged, tries=tries)

    def _enter(
        self,
        worker: Worker,
        case: Case,
        same: bool,
        forged: bool,
        reply: Any = None,
        tries: int = 0,
    ) -> None:
        call = _call(case, same)
        if forged:
            call = replace(call, payment=replace(case.payment, signature=FORGED))
        line = Line()
        if self.is_rough and self.draw() < 0.12:
            self._later(self.draw() * 8, lambda: self._leave(case, line, actor))

        def visit() -> None:
            me = getcurrent()
            me.call, me.line, me.seen = call, line, None
            me.has_released, me.found_free = False, False
            heard = self._hear(worker, case, forged, line, reply)
            self.counts[heard] += 1
            if heard in AGAIN and tries and not line.left and self.draw() < 0.7:
                again = 0.5 + self.draw() * 8
                self._later(again, lambda: self._arrive(case, same, forged, tries - 1))

        actor = self.schedule.spawn(worker.process, visit, case)

    def _hear(self, worker: Worker, case: Case, forged: bool, line: Line, reply: Any) -> str:
        """What the door answers; its outcome in a word."""
        me, checks = getcurrent(), self.checks
        try:
            follower = worker.door("ada", "haiku")
        except X402JobsError as error:
            same = me.seen is None or me.seen.digest == me.call.digest
            checks.refused(case, me, same, forged, error)
            self.schedule.say(f"payment {case.number} hears {error.code}")
            if reply is not None:
                reply.code = error.code
            return error.code
        text, outcome = "", "left"
        for event in follower.events(15.0):
            if event is None:
                if line.left:
                    break
            elif isinstance(event, str):
                checks.served(case, me.call, forged)
                text += event
            else:
                outcome = "done" if isinstance(event, Done) else event.error.code
                checks.heard(case, event, text)
                break
        follower.close()
        self.schedule.say(f"payment {case.number} hears {text!r} and {outcome}")
        if reply is not None:
            reply.code, reply.text = outcome, text
        return outcome

    def _leave(self, case: Case, line: Line, actor: Any) -> None:
        if not actor.dead:
            self.note(case, "caller leaves")
            line.left = True

    # what happens to the house and its people

    def _open(self) -> None:
        self._births += 1
        self.workers.append(Worker(self, f"w{self._births}"))

    def happens(self, process: Process, port: str, mishap: str) -> None:
        """A mishap on the way to a port; a dead worker is replaced after a while."""
        case = getcurrent().case
        self.schedule.say(f"{mishap} {port}")
        self.counts["mishaps"] += 1
        if case is not None:
            self.note(case, mishap)
        if mishap.startswith("crash"):
            self._later(0.5 + self.draw() * 4, self._open)

    def _crash(self) -> None:
        if (worker := self._some_worker()) is not None:
            self.in_progress(worker.process, "killed")
            self.schedule.say(f"{worker.process.name} is killed")
            self.schedule.kill(worker.process)
            self._later(0.5 + self.draw() * 4, self._open)

    def _stop(self) -> None:
        if (worker := self._some_worker()) is not None:
            self.in_progress(worker.process, "asked to stop")
            self.schedule.say(f"{worker.process.name} is asked to stop")
            worker.stop(self.draw() * 20)
            self._open()

    def _stand_still(self) -> None:
        if (worker := self._some_worker()) is not None:
            self.schedule.say(f"{worker.process.name} stands still")
            worker.process.still_until = self.schedule.now + 16 + self.draw() * 60

    def _some_worker(self) -> Worker | None:
        open_ = [worker for worker in self.workers if worker.is_open]
        return self.pick(open_) if open_ else None

    def in_progress(self, process: Process, event: str) -> None:
        """It happens to every request and run of this process."""
        for actor in process.actors:
            if actor.case is not None:
                self.note(actor.case, event)

    def _lose_node(self) -> None:
        self.chain.is_away = True
        self._later(self.draw() * 40, self._find_node)

    def _find_node(self) -> None:
        self.chain.is_away = False

    def _edit(self) -> None:
        for case in self.cases:
            self.note(case, "template edited")
        before = self.catalogue.template or TEMPLATE
        price = self.pick((PRICE, PRICE, 2 * PRICE))
        self.catalogue.put(replace(before, version=before.version + 1, price=price))

    def _delete(self) -> None:
        for case in self.cases:
            self.note(case, "template deleted")
        self.catalogue.delete()

    def _make_void(self, case: Case) -> None:
        how = self.pick((Canceled(), SpentElsewhere()))
        self.note(case, "payer cancels" if how == Canceled() else "payer spends it elsewhere")
        self.chain.make_void(case, how)

    def _purge(self) -> None:
        for case in self.cases:
            self.note(case, "purged")
        self.ledger.purge(self.schedule.now)
        self.checks.purged()

    def _pay_out(self, case: Case) -> None:
        """The operator's `ledger refund`, on another machine than any worker."""
        row = self.ledger.earlier(case.payment.claim_key)
        self.note(case, "paid out")
        if row is None:
            return
        rows: Any = SimpleNamespace(entry=lambda _: SimpleNamespace(execution=row))
        ledger: Any = self.ledger
        clock: Any = None
        audit = Audit(rows, ledger, clock, opening_seconds=0, run_seconds=0, play_money=None)
        try:
            audit.pay_out(row.id, f"0xrefund{case.number}")
            self.counts["paid out"] += 1
        except (Conflict, StoreUnavailable):
            pass

    # what the peers ask of the story

    def pick(self, of: Any) -> Any:
        """One of them."""
        return of[int(self.draw() * len(of))]

    def choose(self, weights: dict[str, int], calm: str) -> str:
        """A fate by its weight in a hundred; in calm weather this one."""
        if not self.is_rough:
            return calm
        left = self.draw() * 100
        for fate, weight in weights.items():
            left -= weight
            if left < 0:
                return fate
        return calm

    def mishap(self, is_store: bool) -> str:
        """What goes wrong on the way to a port."""
        return str(self.pick(STORE_MISHAPS if is_store else MISHAPS))

    def loses_beat(self) -> bool:
        """Whether the store does not take this beat."""
        return self.is_rough and self.draw() < self.rough

    # what is written down

    def note(self, case: Case, event: str) -> None:
        """This happened while the case's row stood so."""
        row = self.ledger.earlier(case.payment.claim_key)
        self.pairs.add((row.state if row is not None else UNKNOWN, event))
        self.counts["events"] += 1

    def note_state(self, state: State, event: str) -> None:
        self.pairs.add((state, event))

    def _moved(self, case: Case) -> None:
        self.note(case, "money moves")
        self.counts["transfers"] += 1
        self.checks.moved(case)

    def _wrote(self, before: Any, after: Any) -> None:
        case = self.by_claim[after.claim_key]
        if before is None or before.state is not after.state:
            self.pairs.add((before.state if before is not None else UNKNOWN, f"-> {after.state}"))
        if self.schedule.trace is not None:
            self.schedule.say(
                f"payment {case.number}: {before and before.state} -> {after.state}, "
                f"attempt {after.attempt}, {after.worker}, {after.code or after.transaction or ''}"
            )
        self.checks.wrote(case, before, after)


AGAIN = frozenset(
    {
        "IN_PROGRESS",
        "SETTLEMENT_UNKNOWN",
        "STORE_UNAVAILABLE",
        "FACILITATOR_UNAVAILABLE",
        "UNAVAILABLE",
        "STREAM_INTERRUPTED",
        "NETWORK_ERROR",
        "OVERLOADED",
        "TIMEOUT",
    }
)
"""What a caller comes back after; `left` and a lost connection have other ways."""


def _call(case: Case, same: bool) -> Call:
    words = f"payment {case.number} asks {'this' if same else 'that'}"
    return Call("/@ada/haiku", {"user_message": words}, case.payment, None, False, "", 0.0)
