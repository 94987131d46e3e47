"""One worker: the real services over its own line to the model peers, and the real door in front.

The door is the paid door's own function, so that its order of steps is the product's.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from traceback import format_exc
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from greenlet import getcurrent

from tests.fakes import PlainBox
from tests.simulator.peers import (
    LAGS,
    WorkerChain,
    WorkerClaude,
    WorkerFacilitator,
)
from tests.simulator.schedule import Alarms, Bell, Killed, Process, Schedule, Silent, Task
from x402jobs.blueprints import instant
from x402jobs.domain.errors import CallerLeft, StoreUnavailable, Superseded, TransferUsed
from x402jobs.domain.execution import Execution, State
from x402jobs.domain.listing import Listing
from x402jobs.domain.models import Models
from x402jobs.domain.networks import DEVELOPMENT, Networks
from x402jobs.services import agentic, paygate, recovery, runs, settlement
from x402jobs.services.access import Access
from x402jobs.services.agentic import Agentic
from x402jobs.services.iam import Iam
from x402jobs.services.in_flight import InFlight
from x402jobs.services.integrations import Integrations
from x402jobs.services.left_rows import LeftRows
from x402jobs.services.paygate import Paygate
from x402jobs.services.pricing import Pricing
from x402jobs.services.recovery import Recovery
from x402jobs.services.runs import Runs
from x402jobs.services.settlement import Settlement
from x402jobs.services.templates import Templates

if TYPE_CHECKING:
    from tests.simulator.history import History

NETWORKS = Networks((DEVELOPMENT,))
BOX = PlainBox()
FIRST_CONTENT_SECONDS = 30.0
RUN_SECONDS = 60.0
"""Longer than any speech of this Claude's."""
BEAT_SECONDS, ROUND_SECONDS = 5.0, 8.0
LATENCIES = (0.0,) * 40 + (0.01,) * 10 + (0.3, 0.3, 0.5, 0.7, 1.0, 1.0, 1.5, 2.0, 3.0, 6.0, 12.0)


class Line:
    """ports.Line of a caller who leaves when the story says so."""

    def __init__(self) -> None:
        self.left = False

    def gone(self) -> bool:
        return self.left

    def still_there(self) -> None:
        if self.left:
            raise CallerLeft()


class Crossing:
    """The way to everything outside: it takes time, and on it a process may die or stand still.

    A store may be down, too, or have done what it was asked and its answer be lost, or do it when
    nobody waits for it any more.
    """

    def __init__(self, history: "History", process: Process) -> None:
        self._history = history
        self._schedule = history.schedule
        self._process = process

    def __call__(self, port: str, effect: Callable[[], Any], is_store: bool = False) -> Any:
        schedule, process, history = self._schedule, self._process, self._history
        if process.is_dead:
            raise Killed
        draw = schedule.random
        mishap = history.mishap(is_store) if draw() < history.rough else None
        if mishap is not None:
            history.happens(process, port, mishap)
        if mishap == "crash before":
            schedule.kill(process)
            raise Killed
        if mishap == "still before":
            process.still_until = schedule.now + 16 + draw() * 50
            schedule.pause(0.0)
        elif history.is_rough:
            if (latency := LATENCIES[int(draw() * len(LATENCIES))]) or draw() < 0.5:
                schedule.pause(latency)
        if mishap == "store late":
            schedule.at(schedule.now + draw() * 20, lambda: self._come_late(port, effect))
        if mishap in ("store down", "store late"):
            raise StoreUnavailable()
        result = effect()
        if mishap == "crash after":
            schedule.kill(process)
            raise Killed
        if mishap == "still after":
            process.still_until = schedule.now + 16 + draw() * 50
            schedule.pause(0.0)
        elif history.is_rough and draw() < 0.2:
            schedule.pause(LATENCIES[int(draw() * len(LATENCIES))])
        if mishap == "store answer lost":
            raise StoreUnavailable()
        return result

    def _come_late(self, port: str, effect: Callable[[], Any]) -> None:
        """What was asked is done after all, and nobody is there to hear of it."""
        self._schedule.say(f"{self._process.name}'s {port} arrives")
        with suppress(StoreUnavailable, Superseded, TransferUsed):
            effect()


class WorkerLedger:
    """ports.Ledger as one worker reaches it, over a network on which answers are lost."""

    def __init__(self, history: "History", cross: Crossing) -> None:
        self._model = history.ledger
        self._history = history
        self._cross = cross
        self._untold: list[tuple[Execution, str | None]] = []
        """What was taken over for this worker, and it has not heard of."""

    def claim(self, execution: Execution) -> Execution | None:
        return self._cross("claim", lambda: self._model.claim(execution), True)

    def swap(self, before: Execution, after: Execution, **sealed: str | None) -> None:
        def write() -> None:
            self._model.swap(before, after, **sealed)
            getcurrent().has_released = after.state is State.RELEASED

        self._cross(f"{before.state}->{after.state}", write, True)

    def earlier(self, claim_key: str) -> Execution | None:
        def look() -> Execution | None:
            row = self._model.earlier(claim_key)
            getcurrent().found_free = row is None or row.state is State.RELEASED
            return row

        return self._cross("earlier", look, True)

    def take_over(
        self, worker: str, left: Mapping[str, int], limit: int, **limits: float
    ) -> list[tuple[Execution, str | None]]:
        def take() -> None:
            before = {id: self._model.rows[id].state for id in self._model.open}
            taken = self._model.take_over(worker, left, limit, **limits)
            for row, _ in taken:
                self._history.note_state(before[row.id], "taken over")
            self._untold += taken

        self._cross("take over", take, True)
        told, self._untold = self._untold, []
        return [each for each in told if self._model.rows.get(each[0].id) == each[0]]

    def execution(self, execution_id: str) -> tuple[Execution, str | None] | None:
        def look() -> tuple[Execution, str | None] | None:
            row = self._model.rows.get(execution_id)
            return (row, None) if row is not None else None

        return self._cross("look", look, True)

    def sealed_answer(self, execution: Execution) -> str | None:
        return self._cross("answer", lambda: self._model.sealed_answer(execution), True)


class WorkerCatalogue:
    """The one read of ports.Catalogue, remembered by whoever makes it."""

    def __init__(self, history: "History", cross: Crossing) -> None:
        self._model = history.catalogue
        self._cross = cross

    def listing(self, username: str, slug: str, claim_key: str | None) -> Listing:
        listing: Listing = self._cross(
            "listing", lambda: self._model.listing(username, slug, claim_key), True
        )
        getcurrent().seen = listing.earlier
        return listing


class Clock:
    """ports.Clock of the schedule."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def now(self) -> float:
        return self._schedule.now

    def monotonic(self) -> float:
        return self._schedule.now


class Worker:
    """What wiring.build_services puts together, over the models. Beats and recovers by itself."""

    def __init__(self, history: "History", name: str) -> None:
        schedule = history.schedule
        self.process = process = Process(name)
        self.is_stopping = False
        self._history = history
        self._schedule = schedule
        self._is_recovering = False
        cross = Crossing(history, process)
        clock, left = Clock(schedule), LeftRows(Clock(schedule))
        ledger: Any = WorkerLedger(history, cross)
        facilitator = WorkerFacilitator(
            history.chain, history.by_claim, cross, history.choose, schedule, history.note
        )
        chain = WorkerChain(
            history.chain, history.by_nonce, cross, lambda: history.pick(LAGS), history.note
        )
        catalogue: Any = WorkerCatalogue(history, cross)
        pricing = Pricing(facilitator.offers, NETWORKS, "https://shop.test")
        settling = Settlement(
            ledger=ledger,
            facilitator=facilitator,
            chain=chain,
            box=BOX,
            clock=clock,
            networks=NETWORKS,
            left=left,
        )
        gate = Paygate(
            ledger=ledger,
            facilitator=facilitator,
            limits=None,  # type: ignore[arg-type]
            in_flight=InFlight(payer_calls=10**6, settlements=10**6),
            clock=clock,
            worker=name,
            pricing=pricing,
            settlement=settling,
            left=left,
            first_content_seconds=FIRST_CONTENT_SECONDS,
        )
        claude = WorkerClaude(history.cases, cross, history.choose, schedule)
        self.runs = Runs(ledger, BOX, clock, left)
        self.recovery = Recovery(
            ledger=ledger,
            settlement=settling,
            left=left,
            clock=clock,
            worker=name,
            opening_seconds=FIRST_CONTENT_SECONDS,
            run_seconds=RUN_SECONDS,
        )
        services = SimpleNamespace(
            clock=clock,
            templates=Templates(catalogue, BOX),
            integrations=Integrations(None, BOX),  # type: ignore[arg-type]
            iam=Iam(None, None, None, sessions=None, api_keys=None, internal_keys=None),  # type: ignore[arg-type]
            pricing=pricing,
            paygate=gate,
            agentic=Agentic(claude, Models({}, {}), clock),
            runs=self.runs,
            access=Access(ledger, self.runs, facilitator, NETWORKS, None),
        )
        self.door = FunctionType(instant.run_template.__code__, DOOR | {"services": services})
        history.ledger.beat(name)
        schedule.at(schedule.now + BEAT_SECONDS * schedule.random(), self._beat)
        schedule.at(schedule.now + ROUND_SECONDS * schedule.random(), self._recover)

    @property
    def is_open(self) -> bool:
        """Whether connections reach it."""
        return not (self.process.is_dead or self.is_stopping)

    def stop(self, grace: float) -> None:
        """SIGTERM: nothing new, and once patience ends, what is left is ended in good order."""
        self.is_stopping = True
        self.runs.refuse_new()
        self._schedule.at(self._schedule.now + grace, self._drain)

    def _drain(self) -> None:
        if not self.process.is_dead:
            self._schedule.say(f"{self.process.name} drains")
            self._history.in_progress(self.process, "drained")
            self.runs.drain()
            self._schedule.at(self._schedule.now + 5.0, self._end)

    def _end(self) -> None:
        if not self.process.is_dead:
            self._schedule.kill(self.process)

    def _beat(self) -> None:
        schedule = self._schedule
        if self.process.is_dead:
            return
        if self.process.still_until > schedule.now:
            # Whoever stood still beats as soon as it moves again: its beat is long due.
            schedule.at(self.process.still_until + schedule.random() * 0.5, self._beat)
            return
        if not self._history.loses_beat():
            self._history.ledger.beat(self.process.name)
        schedule.at(schedule.now + BEAT_SECONDS, self._beat)

    def _recover(self) -> None:
        if self.process.is_dead:
            return
        if self._history.ledger.open and not self._is_recovering:
            self._is_recovering = True
            self._schedule.spawn(self.process, self._round)
        self._schedule.at(self._schedule.now + ROUND_SECONDS, self._recover)

    def _round(self) -> None:
        try:
            self.recovery.round()
        except StoreUnavailable:
            pass
        self._is_recovering = False


DOOR = {name: vars(instant).get(name) for name in instant.run_template.__code__.co_names} | {
    "__builtins__": __builtins__,
    "request": SimpleNamespace(environ={}),
    "read_call": lambda request, networks, now: replace(getcurrent().call, began=now),
    "SocketLine": lambda environ: getcurrent().line,
    "recognise": lambda: None,
    "answer": lambda follower, call, line: follower,
}


class Log:
    """Hears only what should never be said: that something broke that nobody had thought of."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def exception(self, event: str, **_: object) -> None:
        self.broken.append(f"{event} {format_exc(limit=-3)}")

    def info(self, event: str, **_: object) -> None:
        pass

    error = warning = info


LOG = Log()


STAGED = {"ALARMS": Alarms(), "Bell": Silent, "Event": Bell, "Thread": Task}


@contextmanager
def staged() -> Iterator[None]:
    """The services with our clock's waiting and threads, and longer pauses: they are only looks."""
    ids = count()
    waits = [
        patch.object(module, name, what)
        for module, names in (
            (agentic, ("ALARMS", "Event")),
            (recovery, ("Thread",)),
            (runs, ("Bell", "Event", "Thread")),
            (settlement, ("Event",)),
        )
        for name, what in (
            ("ALARMS", Alarms()),
            ("Bell", Silent),
            ("Event", Bell),
            ("Thread", Task),
        )
        if name in names
    ]
    logs = [patch.object(each, "log", LOG) for each in (paygate, recovery, runs, settlement)]
    others = [
        patch.object(paygate, "uuid", SimpleNamespace(uuid4=lambda: f"row{next(ids)}")),
        patch.object(settlement, "LOOK_SECONDS", 5.0),
        patch.object(recovery, "PAUSE_SECONDS", 20.0),
    ]
    for each in (*waits, *logs, *others):
        each.start()
    try:
        yield
    finally:
        for each in (*waits, *logs, *others):
            each.stop()
