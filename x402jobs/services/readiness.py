"""Whether work can be taken on, and what is in the way: looked at in the background."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event, Lock, Thread

import structlog

from x402jobs import metrics
from x402jobs.domain.errors import LimitsUnavailable, StoreUnavailable, Unavailable
from x402jobs.ports import Clock, Limits, Trouble
from x402jobs.services.iam.pepper import OtherRing, Pepper
from x402jobs.services.runs import Runs

LOOK_SECONDS = 2.0
"""From the end of one look to the beginning of the next. While there is trouble, from beginning to
beginning: a look that hangs must not hide that others would be answered again."""
LOST_SECONDS = 3.0
"""A look that is not back by then counts as trouble: with the facilitator's pause of 5 s, and a
turn, whatever falls silent is named within 10."""
AT_ONCE = 4
"""So many looks of one check may hang before no other is begun."""

NOT_LOOKED = Trouble("not_looked_at", "Nobody has looked yet: this worker has only just started.")
LOST = Trouble("lost", f"There was no answer for {LOST_SECONDS:.0f} seconds.")
BROKEN = Trouble("broken", "Looking failed for a fault of ours: the log has its kind and place.")
DRAINING = Trouble("draining", "This worker is about to end, and takes no new work.")
OTHER_RING = Trouble(
    "other_ring", "The key ring opens nothing of what the store was sealed with: X402JOBS_KEYS."
)
NO_STORE = Trouble(
    "not_known", "The database does not answer, so whose key ring it is, is unknown."
)
NO_LIMITS = Trouble("no_answer", "Redis counts nothing: what needs a limit is refused meanwhile.")

Look = Callable[[], Trouble | None]
"""May take as long as it likes, and raise whatever happens."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Standing:
    """How a check stands: no trouble, or which; `since` when, in unix seconds."""

    trouble: Trouble | None
    since: float


class Readiness:
    """Named checks, each with threads of its own, so that what hangs holds up nobody."""

    def __init__(self, checks: Mapping[str, Look], clock: Clock) -> None:
        self._checks = dict(checks)
        self._flags: dict[str, Look] = {}
        self._clock = clock
        self._stopped = Event()
        self._lock = Lock()
        self._standings = dict.fromkeys(checks, Standing(NOT_LOOKED, clock.now()))
        self._newest = dict.fromkeys(checks, 0)

    def flag(self, name: str, look: Look) -> None:
        """Look at this too, and once more whenever somebody asks: it answers at once."""
        self._checks[name] = self._flags[name] = look
        self._standings[name] = Standing(NOT_LOOKED, self._clock.now())
        self._newest[name] = 0

    def start(self) -> None:
        """Begin to look."""
        for name in self._checks:
            metrics.READY.labels(name).set(0)
            watch = Thread(target=self._watch, args=(name,), name=f"readiness-{name}", daemon=True)
            watch.start()

    def stop(self) -> None:
        """Begin no other look."""
        self._stopped.set()

    def standings(self) -> Mapping[str, Standing]:
        """How every check stands by its last look. Waits for nothing."""
        for name, look in self._flags.items():
            self._note(name, look())
        with self._lock:
            return dict(self._standings)

    def _watch(self, name: str) -> None:
        looks: list[Thread] = []
        number = 0
        while not self._stopped.is_set():
            looks = [each for each in looks if each.is_alive()]
            if len(looks) == AT_ONCE:
                self._stopped.wait(LOOK_SECONDS)
                continue
            number, back = number + 1, Event()
            looks.append(Thread(target=self._look, args=(name, number, back), daemon=True))
            trouble = self._standings[name].trouble
            may_be_lost = trouble is None or trouble is NOT_LOOKED
            looks[-1].start()
            if back.wait(LOST_SECONDS if may_be_lost else LOOK_SECONDS):
                self._stopped.wait(LOOK_SECONDS)
            elif may_be_lost:
                self._note(name, LOST, number)

    def _look(self, name: str, number: int, back: Event) -> None:
        try:
            trouble = self._checks[name]()
        except Exception:
            log.exception("readiness_broke", check=name)
            trouble = BROKEN
        self._note(name, trouble, number)
        back.set()

    def _note(self, name: str, trouble: Trouble | None, number: int = 0) -> None:
        """A good answer counts however late it comes; a bad one, unless a later look is back."""
        with self._lock:
            if trouble is not None and 0 < number < self._newest[name]:
                return
            self._newest[name] = max(number, self._newest[name])
            before = self._standings[name]
            is_new = (before.trouble is None) != (trouble is None)
            since = self._clock.now() if is_new else before.since
            self._standings[name] = Standing(trouble, since)
        metrics.READY.labels(name).set(trouble is None)
        if trouble is None and before.trouble not in (None, NOT_LOOKED):
            log.warning("readiness_back", check=name)
        elif trouble is not None and trouble.reason != getattr(before.trouble, "reason", None):
            log.error("readiness_lost", check=name, reason=trouble.reason)


def look_at_ring(pepper: Pepper) -> Look:
    """Whether the key ring is the store's: asked until it is."""

    def look() -> Trouble | None:
        try:
            pepper.check()
        except OtherRing:
            return OTHER_RING
        except StoreUnavailable:
            return NO_STORE
        return None

    return look


def look_at_limits(limits: Limits) -> Look:
    """Whether limits can be counted."""

    def look() -> Trouble | None:
        try:
            limits.check()
        except LimitsUnavailable:
            return NO_LIMITS
        return None

    return look


def look_at_end(runs: Runs) -> Look:
    """Whether this worker goes on; a flag."""

    def look() -> Trouble | None:
        try:
            runs.check_open()
        except Unavailable:
            return DRAINING
        return None

    return look
