"""Alarms: in time, put off, cancelled, again and again; the same under gevent."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tests.waiting import eventually
from x402jobs.alarms import ALARMS, FEW, Alarms, Bell

SOON = 0.05
LATE = 2.0
"""Seconds that a busy machine may take."""


class Rings:
    """The moments at which somebody rang, from the beginning on."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.moments: list[float] = []

    def __call__(self) -> None:
        self.moments.append(time.monotonic() - self.began)


@pytest.fixture
def rings() -> Rings:
    return Rings()


def test_an_alarm_rings_not_before_its_time_and_again_after_as_long(rings: Rings) -> None:
    alarm = ALARMS.set(SOON, rings)

    assert eventually(lambda: len(rings.moments) >= 3, LATE)
    alarm.cancel()
    assert rings.moments[0] >= SOON
    assert rings.moments[2] >= 3 * SOON


def test_what_is_put_off_in_time_does_not_ring(rings: Rings) -> None:
    alarm = ALARMS.set(LATE, rings)
    until = time.monotonic() + 1.5 * LATE
    while time.monotonic() < until:
        time.sleep(SOON)
        alarm.put_off()
    alarm.cancel()

    assert rings.moments == []


def test_what_is_cancelled_does_not_ring(rings: Rings) -> None:
    ALARMS.set(SOON, rings).cancel()
    other = Rings()
    later = ALARMS.set(3 * SOON, other)

    assert eventually(lambda: bool(other.moments), LATE)
    later.cancel()
    assert rings.moments == []


def test_a_later_alarm_that_is_due_first_rings_first() -> None:
    rung: list[str] = []
    slow = ALARMS.set(LATE, lambda: rung.append("slow"))
    time.sleep(SOON)  # whoever watches waits for it by now
    quick = ALARMS.set(SOON, lambda: rung.append("quick"))

    assert eventually(lambda: "slow" in rung, 3 * LATE)
    slow.cancel()
    quick.cancel()
    assert rung[0] == "quick"


@pytest.mark.parametrize("seconds", [0, -1])
def test_an_alarm_for_a_moment_that_has_passed_leaves_time_for_others(
    seconds: float, rings: Rings
) -> None:
    alarm = ALARMS.set(seconds, rings)
    assert eventually(lambda: bool(rings.moments), LATE)
    began = time.monotonic()
    time.sleep(10 * SOON)
    alarm.cancel()

    assert len(rings.moments) <= (time.monotonic() - began) / 0.01 + 2


def test_a_thousand_at_once_each_ring_in_their_time() -> None:
    late = [Rings() for _ in range(1000)]
    alarms = [ALARMS.set(SOON + number / 2000, each) for number, each in enumerate(late)]

    assert eventually(lambda: all(each.moments for each in late), 3 * LATE)
    for alarm in alarms:
        alarm.cancel()
    assert all(each.moments[0] >= SOON + number / 2000 for number, each in enumerate(late))


def test_the_watching_thread_ends_with_the_last_alarm_and_comes_again(rings: Rings) -> None:
    alarms = Alarms()
    for turn in (1, 2):
        alarm = alarms.set(SOON, rings)
        assert eventually(lambda turn=turn: len(rings.moments) >= turn, LATE)
        alarm.cancel()
        assert eventually(lambda: not alarms._is_watched, LATE)


def test_a_child_of_this_process_has_alarms_of_its_own() -> None:
    waiting = ALARMS.set(60, lambda: None)
    child = os.fork()
    if child == 0:
        rung = threading.Event()
        ALARMS.set(SOON, rung.set)
        os._exit(0 if rung.wait(LATE) else 1)

    assert os.waitpid(child, 0)[1] == 0
    waiting.cancel()


def listening(bell: Bell, said: list[bool]) -> threading.Thread:
    thread = threading.Thread(target=lambda: said.append(bell.wait()), daemon=True)
    thread.start()
    return thread


def ends(thread: threading.Thread) -> Callable[[], bool]:
    return lambda: not thread.is_alive()


def test_a_bell_tells_who_was_rung_from_who_waited_in_vain() -> None:
    patient, impatient = Bell(60), Bell(SOON)
    said: list[bool] = []
    rung = listening(patient, said)
    patient.set()
    assert eventually(ends(rung), LATE)
    for _ in range(2):
        impatient.clear()
        assert eventually(ends(listening(impatient, said)), LATE)
    patient.cancel()
    impatient.cancel()

    assert said == [True, False, False]


def test_one_that_breaks_does_not_keep_the_others_from_ringing(rings: Rings) -> None:
    def broken() -> None:
        raise RuntimeError("planted")

    alarms = [ALARMS.set(SOON, broken), ALARMS.set(2 * SOON, rings)]

    assert eventually(lambda: len(rings.moments) >= 2, LATE)
    for alarm in alarms:
        alarm.cancel()


def test_who_has_cancelled_is_not_being_rung_for_any_more() -> None:
    begun, said = threading.Event(), []

    def slowly() -> None:
        begun.set()
        time.sleep(4 * SOON)
        said.append("rung")

    alarm = ALARMS.set(SOON, slowly)
    assert begun.wait(LATE)
    alarm.cancel()

    assert said == ["rung"]


def test_a_ring_may_cancel_itself_and_set_another(rings: Rings) -> None:
    later = []

    def ring() -> None:
        alarm.cancel()
        later.append(ALARMS.set(SOON, rings))

    alarm = ALARMS.set(SOON, ring)
    assert eventually(lambda: bool(rings.moments), LATE)
    later[0].cancel()
    assert len(later) == 1


def test_cancelled_alarms_do_not_pile_up_until_their_time_has_come() -> None:
    alarms = Alarms()
    kept = alarms.set(600, lambda: None)
    for _ in range(10_000):
        alarms.set(600, lambda: None).cancel()

    assert len(alarms._next) <= 2 * FEW
    kept.cancel()


UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys
import pytest
sys.exit(pytest.main([sys.argv[1], "-q", "-p", "no:cacheprovider", "-k", "not gevent"]))
"""


def test_all_of_this_holds_under_gevent() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", UNDER_GEVENT, __file__],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "COVERAGE_PROCESS_START": ""},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
