"""The worker that is asked to end, and what one before it has left."""

import os
import runpy
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from x402jobs import worker


@pytest.mark.parametrize(
    ("grace", "after", "takes"),
    [
        (300, 0.0, True),
        (300, 1.9, True),  # gunicorn has let somebody in a second ago
        (300, 2.1, False),
        (4, 0.9, True),  # a quarter of a short grace period
        (4, 1.1, False),
    ],
)
def test_who_was_let_in_last_is_still_served(
    monkeypatch: pytest.MonkeyPatch, grace: int, after: float, takes: bool
) -> None:
    now = 1000.0
    monkeypatch.setattr(worker.time, "monotonic", lambda: now)
    asked = worker.Worker.__new__(worker.Worker)
    asked.alive, asked.cfg = True, SimpleNamespace(graceful_timeout=grace)
    assert asked.takes_requests

    asked.handle_exit(signal.SIGTERM, None)
    now += after

    assert asked.takes_requests is takes


def test_asking_twice_gives_nobody_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(worker.time, "monotonic", lambda: now)
    asked = worker.Worker.__new__(worker.Worker)
    asked.alive, asked.cfg = True, SimpleNamespace(graceful_timeout=300)
    for _ in range(3):
        asked.handle_exit(signal.SIGTERM, None)
        now += 1.0

    assert not asked.takes_requests


def test_what_a_killed_server_has_counted_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    names = {
        "killed": f"x402jobs-metrics-{dead.pid}-abc",
        "running": f"x402jobs-metrics-{os.getpid()}-abc",
        "no server": "x402jobs-metrics-notes",
    }
    for name in names.values():
        (tmp_path / name).mkdir()
    settings = runpy.run_path(str(Path(__file__).parents[1] / "gunicorn.conf.py"))

    for name in names.values():
        settings["_remove_if_dead"](tmp_path / name)

    left = {who for who, name in names.items() if (tmp_path / name).exists()}
    assert left == {"running", "no server"}
