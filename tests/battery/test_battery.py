"""A little of everything that `make battery` does, and the bugs that it has to find."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.battery import changes, kills, leavers, liars, replays, resuming, steps, stopping
from tests.battery.house import HURRIED, Report, Site, timed

pytestmark = pytest.mark.wire

SEED = random.SystemRandom().randrange(10**6)
PARTS: dict[str, Callable[[Site], Report]] = {
    "one authorization a hundred times at once": lambda at: replays.replays(at, SEED, 5, 100, 1),
    "kill -9 at random": lambda at: kills.kills(at, SEED, 6, 60, callers=6, hurry=HURRIED),
    "kill -9 at each step": lambda at: steps.deaths(at, SEED, 1, workers=3),
    "frozen until it is too late": lambda at: steps.freezes(at, SEED, 1, ("settling", "speaking")),
    "a facilitator that lies": lambda at: liars.liars(at, SEED, 3),
    "verify, then drain": lambda at: liars.drained(at, SEED, 5),
    "callers who leave": lambda at: leavers.leavers(at, SEED, 30),
    "callers who do not read": lambda at: leavers.never_read(at, SEED, 10, limit=3),
    "callers who come back": lambda at: resuming.resuming(at, SEED, 40, 10, slowest=12),
    "SIGTERM, inside the grace period": lambda at: stopping.drains(at, SEED, 20),
    "SIGTERM, past the grace period": lambda at: stopping.past_grace(at, SEED, 10),
    "a template changed after settlement": lambda at: changes.changes(at, SEED, 1),
}
AT_ONCE = 4
"""Most of a part's time is waiting for somebody to be given up."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Report]]]:
    with ThreadPoolExecutor(AT_ONCE) as hands:
        yield {
            name: hands.submit(timed, part, Site(tmp_path_factory.mktemp("battery")))
            for name, part in PARTS.items()
        }


@pytest.mark.parametrize("part", PARTS)
def test_money_survives(told: dict[str, Future[Report]], part: str) -> None:
    report = told[part].result()

    print(report)

    assert report.violations == [], f"seed {report.seed}"


@pytest.mark.parametrize("part", ["no fence"])
def test_a_planted_bug_is_found(tmp_path: Path, part: str) -> None:
    """The others take longer: `make battery` plants them all."""
    report = steps.freezes(Site(tmp_path), SEED, 1, ("speaking",), bug=part)

    assert any(each.startswith("frozen at speaking") for each in report.violations)
