"""Whoever comes with a good token for the first time has an account from then on."""

from dataclasses import dataclass, field

import pytest

from tests.fakes import FakeCatalogue, FakeClock
from x402jobs.domain.errors import StoreUnavailable, Unauthenticated
from x402jobs.services.iam import Newcomers, newcomers


@dataclass
class Register(FakeCatalogue):
    """A catalogue that remembers what it is told of, and whose answer may be a fault."""

    told: list[str] = field(default_factory=list)
    fault: Exception | None = None

    def know(self, user_id: str) -> None:
        self.told.append(user_id)
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def register() -> Register:
    return Register()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def door(register: Register, clock: FakeClock) -> Newcomers:
    return Newcomers(register, clock)


def test_each_account_is_told_of_once_for_ten_minutes(
    door: Newcomers, register: Register, clock: FakeClock
) -> None:
    for who in ("ada", "bob", "ada", "bob"):
        door.meet(who)
    clock.advance(600)
    door.meet("ada")
    assert register.told == ["ada", "bob"]

    clock.advance(1)
    door.meet("ada")

    assert register.told == ["ada", "bob", "ada"]


@pytest.mark.parametrize("fault", [Unauthenticated(), StoreUnavailable()])
def test_who_could_not_be_made_known_is_nobody_we_know(
    door: Newcomers, register: Register, fault: Exception
) -> None:
    register.fault = fault
    for _ in range(2):
        with pytest.raises(type(fault)):
            door.meet("ada")
    register.fault = None

    door.meet("ada")

    assert register.told == ["ada"] * 3


def test_of_many_the_ones_not_met_for_longest_are_forgotten(
    door: Newcomers, register: Register, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "MOST", 2)
    for who in ("ada", "bob"):
        door.meet(who)
    clock.advance(601)
    door.meet("ada")  # which makes bob the one to forget
    door.meet("cleo")
    register.told.clear()

    for who in ("cleo", "ada", "bob"):
        door.meet(who)

    assert register.told == ["bob"]
