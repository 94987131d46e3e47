"""Limits in this process's memory."""

import threading

import pytest
from limits import parse_many

from x402jobs.adapters.clock import SystemClock
from x402jobs.adapters.limits import LIMITS, MemoryLimits

MINUTE = 60
ALLOWED = {
    "owner_test": (10, MINUTE),
    "free_template": (30, MINUTE),
    "failed_credential": (20, MINUTE),
    "task": (10, 5 * MINUTE),
    "session": (20, MINUTE),
    "api_key": (20, 60 * MINUTE),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_lets_so_many_through_in_its_time_and_then_says_how_long_to_wait(limit):
    limits, (allowed, seconds) = MemoryLimits(SystemClock()), ALLOWED[limit]

    through = [limits.hit(limit, "ada") for _ in range(allowed)]
    wait = limits.hit(limit, "ada")

    assert through == [None] * allowed
    assert 1 <= wait <= seconds
    (rule, *_) = parse_many(LIMITS[limit])
    assert rule.get_expiry() == seconds


def test_one_callers_hits_are_not_anothers_nor_another_limits():
    limits = MemoryLimits(SystemClock())
    for _ in range(11):
        limits.hit("owner_test", "ada")

    assert limits.hit("owner_test", "ada") is not None
    assert limits.hit("owner_test", "bob") is None
    assert limits.hit("free_template", "ada") is None


def test_the_day_has_a_limit_of_its_own(monkeypatch):
    monkeypatch.setitem(LIMITS, "owner_test", "1000 per minute; 100 per day")
    limits = MemoryLimits(SystemClock())

    through = [limits.hit("owner_test", "ada") for _ in range(100)]

    assert through == [None] * 100
    assert 60 < limits.hit("owner_test", "ada") <= 86_400


def test_a_wait_is_never_shorter_than_a_second():
    class Late(SystemClock):
        def now(self):
            return super().now() + 10_000

    limits = MemoryLimits(Late())

    assert [limits.hit("owner_test", "ada") for _ in range(11)][-1] == 1.0


def test_building_the_limits_starts_no_thread():
    """The library's storage starts one; a server may fork after building the app."""
    before = set(threading.enumerate())

    MemoryLimits(SystemClock())

    assert set(threading.enumerate()) - before == set()


def test_an_unknown_limit_is_a_fault_of_ours():
    with pytest.raises(KeyError):
        MemoryLimits(SystemClock()).hit("nothing", "ada")
