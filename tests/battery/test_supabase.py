"""A little of the battery again, where two hosts sell from one Supabase project."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.battery import kills, replays, steps
from tests.battery.house import HURRIED, Report, Site, timed
from tests.battery.test_battery import SEED
from tests.supabase.rig import Rig

pytestmark = pytest.mark.wire

PARTS: dict[str, Callable[[Site], Report]] = {
    "one authorization a hundred times at once": lambda at: replays.replays(at, SEED, 2, 100, 1),
    "kill -9 at random": lambda at: kills.kills(at, SEED, 5, 40, callers=6, hurry=HURRIED),
}


def test_money_survives_on_two_hosts(rig: Rig, tmp_path: Path) -> None:
    told: dict[str, Future[Report]] = {}
    with ThreadPoolExecutor(len(PARTS)) as hands:
        for name, part in PARTS.items():
            told[name] = hands.submit(timed, part, Site(tmp_path / name, rig.postgres))

    reports = [each.result() for each in told.values()]

    print(*reports, sep="\n")
    assert [report.violations for report in reports] == [[] for _ in PARTS], f"seed {SEED}"


def test_a_missing_fence_is_found(rig: Rig, tmp_path: Path) -> None:
    """In the database this time, where the fence is."""
    report = steps.freezes(Site(tmp_path, rig.postgres), SEED, 1, ("speaking",), bug="no fence")

    woke = "frozen at speaking: woke up"
    assert any(each.startswith(woke) for each in report.violations), report
