"""The worker that is asked to end: for how long it still serves like any other."""

import signal
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
