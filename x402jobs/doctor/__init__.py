"""The doctor: looks a running deployment over and changes nothing."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Literal

from x402jobs.domain.errors import StoreUnavailable

Word = Literal["ok", "warn", "FAIL", "not run"]


@dataclass(frozen=True)
class Finding:
    """What a check has found, and the mend where there is something to mend. Holds no secret."""

    word: Word
    says: str
    mend: str = ""


def ok(says: str) -> Finding:
    return Finding("ok", says)


def warn(says: str, mend: str) -> Finding:
    return Finding("warn", says, mend)


def fail(says: str, mend: str) -> Finding:
    return Finding("FAIL", says, mend)


def not_run(why: str) -> Finding:
    """Nothing is known. Never told as ok: what nobody has looked at may be anything."""
    return Finding("not run", why)


@dataclass(frozen=True)
class Check:
    """One question. It is asked only where each of those named in `after` was not a failure.

    `seconds` is its time limit, its own ones included.
    """

    group: str
    name: str
    look: Callable[[], Finding]
    after: tuple[str, ...] = ()
    seconds: float = 20.0


def examine(checks: Iterable[Check]) -> Iterator[tuple[Check, Finding]]:
    """Each check with its finding, in their order, as soon as it is known."""
    unknown: set[str] = set()
    for check in checks:
        missing = [name for name in check.after if name in unknown]
        finding = not_run(f"{missing[0]} comes first") if missing else _looked(check)
        if finding.word in ("FAIL", "not run"):
            unknown.add(check.name)
        yield check, finding


def _looked(check: Check) -> Finding:
    """On a thread of its own, which is left behind where it does not come back in time."""
    found: SimpleQueue[Finding] = SimpleQueue()
    Thread(target=lambda: found.put(_found(check)), name=check.name, daemon=True).start()
    try:
        return found.get(timeout=check.seconds)
    except Empty:
        return not_run(f"it took longer than {check.seconds:g} s")


def _found(check: Check) -> Finding:
    """An exception's own words can quote a key, so they are not told."""
    try:
        return check.look()
    except StoreUnavailable:
        return not_run("the store did not answer")
    except Exception as error:
        return not_run(f"the check itself broke: {type(error).__name__}")
