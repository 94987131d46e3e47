"""What is looked at in the background, when it counts as trouble, and what an asker waits for."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event

import pytest
from prometheus_client import REGISTRY

from tests.fakes import FakeClock
from tests.waiting import eventually
from x402jobs.domain.errors import LimitsUnavailable, StoreUnavailable, Unavailable
from x402jobs.logs import configure_logs
from x402jobs.ports import Trouble
from x402jobs.services import readiness
from x402jobs.services.iam.pepper import OtherRing
from x402jobs.services.readiness import (
    AT_ONCE,
    Readiness,
    Standing,
    look_at_end,
    look_at_limits,
    look_at_ring,
)

AWAY = Trouble("away", "It is away.")


@dataclass
class Peer:
    """Something that is looked at. `hangs` until it is let go; says what it was to say by then."""

    trouble: Trouble | None = None
    hangs: bool = False
    looks: int = 0
    free: Event = field(default_factory=Event)

    def look(self) -> Trouble | None:
        self.looks += 1
        says = self.trouble
        if self.hangs:
            self.free.wait(30)
        return says


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.free.set()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(readiness, "LOST_SECONDS", 0.3)


@pytest.fixture
def watched(peer: Peer, clock: FakeClock) -> Iterator[Readiness]:
    watched = Readiness({"peer": peer.look}, clock)
    yield watched
    watched.stop()


def stands(watched: Readiness) -> str | None:
    """The reason of what is in the way."""
    trouble = watched.standings()["peer"].trouble
    return trouble.reason if trouble is not None else None


def comes_to(watched: Readiness, reason: str | None) -> bool:
    return eventually(lambda: stands(watched) == reason, 10)


def test_what_was_never_looked_at_is_not_relied_on(watched: Readiness, peer: Peer) -> None:
    assert (stands(watched), peer.looks) == ("not_looked_at", 0)


def test_what_is_well_is_found_well_and_looked_at_again(watched: Readiness, peer: Peer) -> None:
    watched.start()

    assert comes_to(watched, None)
    assert eventually(lambda: peer.looks > 3)


def test_trouble_is_told_from_its_beginning_to_its_end(
    watched: Readiness, peer: Peer, clock: FakeClock
) -> None:
    watched.start()
    assert comes_to(watched, None)
    began = clock.advance(60) or clock.now()
    peer.trouble = AWAY
    assert comes_to(watched, "away")

    clock.advance(60)
    peer.trouble = Trouble("further", "It is even further away.")

    assert comes_to(watched, "further")
    assert watched.standings()["peer"] == Standing(peer.trouble, began)
    peer.trouble = None
    assert comes_to(watched, None)
    assert watched.standings()["peer"].since == clock.now()


@pytest.mark.parametrize("well_before", [True, False])
def test_a_look_that_does_not_come_back_is_trouble_and_nobody_waits_for_it(
    watched: Readiness, peer: Peer, well_before: bool
) -> None:
    peer.hangs = not well_before
    watched.start()
    if well_before:
        assert comes_to(watched, None)
    peer.hangs = True

    assert comes_to(watched, "lost")


def test_a_look_that_hangs_does_not_hide_that_others_are_answered_again(
    watched: Readiness, peer: Peer
) -> None:
    watched.start()
    assert comes_to(watched, None)
    peer.hangs = True
    assert comes_to(watched, "lost")

    peer.hangs = False

    assert comes_to(watched, None)
    assert not peer.free.is_set()


def test_no_more_than_a_few_looks_hang_at_once(watched: Readiness, peer: Peer) -> None:
    peer.hangs = True
    watched.start()
    assert eventually(lambda: peer.looks == AT_ONCE)

    assert not eventually(lambda: peer.looks > AT_ONCE, 0.2)
    peer.hangs = False
    peer.free.set()
    assert comes_to(watched, None)


def test_bad_news_that_is_late_does_not_undo_good_news(
    watched: Readiness, peer: Peer, clock: FakeClock
) -> None:
    peer.trouble, peer.hangs = AWAY, True
    watched.start()
    assert comes_to(watched, "lost")
    peer.trouble, peer.hangs = None, False
    assert comes_to(watched, None)
    well = watched.standings()["peer"]
    clock.advance(60)

    peer.free.set()

    looks = peer.looks
    assert eventually(lambda: peer.looks > looks + 5)
    assert watched.standings()["peer"] == well


def test_a_check_that_breaks_is_not_well_and_is_looked_at_again(clock: FakeClock) -> None:
    says: list[object] = [None, ZeroDivisionError("sk-ant-planted"), None]

    def look() -> None:
        said = says.pop(0) if len(says) > 1 else None
        if isinstance(said, Exception):
            if not stopped.is_set():
                says.insert(0, said)
            raise said

    stopped = Event()
    watched = Readiness({"peer": look}, clock)
    watched.start()

    assert comes_to(watched, "broken")
    stopped.set()
    assert comes_to(watched, None)
    watched.stop()


def test_one_check_that_hangs_holds_up_no_other(peer: Peer, clock: FakeClock) -> None:
    peer.hangs = True
    other = Peer()
    watched = Readiness({"peer": peer.look, "other": other.look}, clock)
    watched.start()

    assert eventually(lambda: watched.standings()["other"].trouble is None)
    assert stands(watched) in ("not_looked_at", "lost")
    watched.stop()


def test_a_flag_is_told_as_it_is_now(watched: Readiness) -> None:
    flag = Peer(AWAY)
    watched.flag("peer", flag.look)

    assert stands(watched) == "away"
    flag.trouble = None
    assert stands(watched) is None


def test_one_line_says_when_a_check_changes_its_mind_and_a_figure_what_it_is(
    watched: Readiness,
    peer: Peer,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "LOST_SECONDS", 30)
    configure_logs("INFO")
    watched.start()
    for trouble in (None, AWAY, Trouble("away", "It is away, and further."), None):
        peer.trouble, looks = trouble, peer.looks
        assert comes_to(watched, trouble.reason if trouble else None)
        assert eventually(lambda looks=looks: peer.looks > looks + 3)  # type: ignore[misc]
        is_well = REGISTRY.get_sample_value("x402jobs_ready", {"check": "peer"})
        assert is_well == (trouble is None)

    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]

    told = [(line["event"], line["check"], line.get("reason")) for line in lines]
    assert told == [("readiness_lost", "peer", "away"), ("readiness_back", "peer", None)]


@dataclass
class Raising:
    """A service whose checks raise this."""

    error: Exception | None

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    check_open = check


@pytest.mark.parametrize(
    ("look_at", "error", "reason"),
    [
        (look_at_ring, None, None),
        (look_at_ring, OtherRing(), "other_ring"),
        (look_at_ring, StoreUnavailable(), "not_known"),
        (look_at_limits, None, None),
        (look_at_limits, LimitsUnavailable(), "no_answer"),
        (look_at_end, None, None),
        (look_at_end, Unavailable(), "draining"),
    ],
)
def test_what_a_service_refuses_is_the_trouble_there_is(look_at, error, reason) -> None:
    trouble = look_at(Raising(error))()

    assert (trouble and trouble.reason) == reason
