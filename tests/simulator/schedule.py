"""One thread, one clock, any number of actors: whose turn is next is the seed's to say.

Services are not written as generators, so every actor is a greenlet. It gives its turn back at
each call of a port and wherever it waits; the clock jumps to the next event.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any, ClassVar

from greenlet import getcurrent, greenlet

from x402jobs.alarms import SHORTEST_SECONDS


class Killed(BaseException):
    """The process is gone. Raised at every call of a port from now on, `finally` or not."""


class Process:
    """What is killed, or stands still, as a whole."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.still_until = 0.0
        self.actors: dict[Actor, None] = {}  # in the order of their birth: a set has none


class Actor(greenlet):
    """One thread of a process. `ticket` tells its latest alarm from those it has outlived."""

    process: Process
    ticket = 0
    case: Any = None


class Schedule:
    """The alarms. What falls on one moment comes in an order drawn by lot."""

    current: ClassVar["Schedule"]

    def __init__(self, random: Random, began: float) -> None:
        self.now = began
        self.random = random.random
        self.trace: list[str] | None = None
        self.actors = 0
        self.turns = 0
        self.bells = 0
        self._alarms: list[tuple[float, float, Any, int]] = []
        self._hub = getcurrent()
        Schedule.current = self

    def say(self, text: str) -> None:
        """A line for whoever reads this history; asked for with `trace` alone."""
        if self.trace is not None:
            who = getattr(getcurrent(), "process", None)
            self.trace.append(f"{self.now - 1.8e9:9.3f}  {who.name if who else '-':8}  {text}")

    def at(self, time: float, do: Callable[[], None]) -> None:
        """Call it then, outside of any process."""
        heappush(self._alarms, (time, self.random(), do, 0))

    def spawn(self, process: Process, run: Callable[[], None], case: Any = None) -> Actor:
        """A new thread of the process, whose first turn is drawn with the others of this moment."""

        def live() -> None:
            try:
                run()
            except Killed:
                pass
            finally:
                self.actors -= 1
                process.actors.pop(actor, None)

        actor = Actor(live, self._hub)
        actor.process, actor.case = process, case
        process.actors[actor] = None
        self.actors += 1
        self._alarm(self.now, actor)
        return actor

    def pause(self, seconds: float) -> None:
        """Give the turn back for so long."""
        actor = getcurrent()
        if actor.process.is_dead:
            raise Killed
        self._alarm(self.now + seconds, actor)
        self._hub.switch()
        if actor.process.is_dead:
            raise Killed

    def park(self, seconds: float | None) -> None:
        """Give the turn back until somebody wakes this actor, or for so long."""
        actor = getcurrent()
        if actor.process.is_dead:
            raise Killed
        actor.ticket += 1
        if seconds is not None:
            heappush(self._alarms, (self.now + seconds, self.random(), actor, actor.ticket))
        self._hub.switch()
        if actor.process.is_dead:
            raise Killed

    def wake(self, actor: Actor) -> None:
        """Its turn comes at this moment."""
        self._alarm(self.now, actor)

    def kill(self, process: Process) -> None:
        """No thread of it takes another step. Called by a thread of its own, it must raise next."""
        process.is_dead = True
        self.at(self.now, lambda: self._bury(process))

    def run(self, is_over: Callable[[], bool], until: float) -> None:
        """Give turns until it is over, at the latest until then."""
        alarms = self._alarms
        while alarms and not is_over():
            time, _, whose, ticket = heappop(alarms)
            if time > until:
                heappush(alarms, (time, 0.0, whose, ticket))
                self.now = until
                return
            if time > self.now:
                self.now = time
            if type(whose) is not Actor:
                whose()
            elif whose.ticket == ticket and not (whose.dead or whose.process.is_dead):
                if whose.process.still_until > self.now:
                    self._alarm(whose.process.still_until, whose)
                else:
                    self.turns += 1
                    whose.switch()

    def _alarm(self, time: float, actor: Any) -> None:
        actor.ticket += 1
        heappush(self._alarms, (time, self.random(), actor, actor.ticket))

    def _bury(self, process: Process) -> None:
        for actor in list(process.actors):
            if actor:
                actor.throw(Killed)
            elif not actor.dead:  # it has not had its first turn
                self.actors -= 1
        process.actors.clear()


class Bell:
    """threading.Event whose waiters give their turn back."""

    def __init__(self) -> None:
        Schedule.current.bells += 1
        self._number = Schedule.current.bells
        self._rung = False
        self._waiting: list[Actor] = []

    def __hash__(self) -> int:
        """Transcripts keep a set of these: where they rest in memory must not order them."""
        return self._number

    def is_set(self) -> bool:
        return self._rung

    def clear(self) -> None:
        self._rung = False

    def set(self) -> None:
        self._rung = True
        for actor in self._waiting:
            Schedule.current.wake(actor)
        self._waiting = []

    def wait(self, timeout: float | None = None) -> bool:
        if not self._rung:
            actor = getcurrent()
            self._waiting.append(actor)
            Schedule.current.park(timeout)
            if actor in self._waiting:
                self._waiting.remove(actor)
        return self._rung


class Silent(Bell):
    """x402jobs.alarms.Bell: its wait ends after a silence too."""

    def __init__(self, silence: float) -> None:
        super().__init__()
        self._silence = silence

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(self._silence)

    def cancel(self) -> None:
        pass


class Task:
    """threading.Thread as an actor of the process that starts it."""

    def __init__(
        self,
        target: Callable[..., None],
        args: tuple[Any, ...] | list[Any] = (),
        name: str = "",
        daemon: bool = True,
    ) -> None:
        self._target, self._args = target, args
        self._done = Bell()

    def start(self) -> None:
        starter = getcurrent()
        Schedule.current.spawn(starter.process, self._run, starter.case)

    def join(self) -> None:
        self._done.wait()

    def _run(self) -> None:
        self._target(*self._args)
        self._done.set()


class Alarms:
    """x402jobs.alarms.ALARMS, with an actor of its own for each."""

    def set(self, seconds: float, ring: Callable[[], object]) -> "Alarm":
        alarm = Alarm()
        Task(alarm.watch, (seconds, ring)).start()
        return alarm


class Alarm:
    """What nobody puts off here; it rings until it is cancelled."""

    def __init__(self) -> None:
        self._cancelled = Bell()

    def watch(self, seconds: float, ring: Callable[[], object]) -> None:
        while not self._cancelled.wait(max(seconds, SHORTEST_SECONDS)):
            ring()

    def cancel(self) -> None:
        self._cancelled.set()
