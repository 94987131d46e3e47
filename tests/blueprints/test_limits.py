"""What a caller meets at a limit, what it costs them, and what goes on while nobody can count."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from werkzeug.test import TestResponse

from tests.blueprints.conftest import forge, headers_of
from tests.blueprints.creators import ada
from tests.blueprints.credentials import HERE, cookie, each_kind, shown_by, stranger
from tests.conftest import RAIN, Shop, events
from tests.waiting import eventually
from x402jobs.domain.caller import Method
from x402jobs.settings import Settings

TWICE = "2 per hour"
PAYER_CALLS, SETTLEMENTS = 2, 3


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Every limit small enough to be met."""
    limits = {f"limit_{name}": TWICE for name in settings.limits}
    return replace(settings, payer_calls=PAYER_CALLS, settlements=SETTLEMENTS, **limits)


def free(shop: Shop) -> TestResponse:
    shop.publish(price=0)
    return shop.client.post(shop.url, json=RAIN, buffered=True)


def owner_test(shop: Shop) -> TestResponse:
    headers = {"X-OWNER-TEST": "true", "Authorization": f"Bearer {shop.token()}"}
    return shop.client.post(shop.url, json=RAIN, headers=headers, buffered=True)


def session(shop: Shop) -> TestResponse:
    return shop.client.post("/auth/session", headers=ada(shop).headers)


def api_key(shop: Shop) -> TestResponse:
    return shop.client.post("/api/keys", json={"name": "CI"}, headers=ada(shop).headers)


def bad_token(shop: Shop) -> TestResponse:
    return stranger(shop).get("/api/tiles", headers={"Authorization": "Bearer bad"})


GUARDED = {
    "a free template": (free, 200),
    "an owner test": (owner_test, 200),
    "a new session": (session, 200),
    "a new API key": (api_key, 201),
    "a bad token": (bad_token, 401),
}
"""What is counted, and what it is told while it is within its limit."""
Ask = tuple[Callable[[Shop], TestResponse], int]


@pytest.mark.parametrize("ask", GUARDED.values(), ids=GUARDED)
def test_over_the_operators_limit_it_is_told_when_to_come_back(shop: Shop, ask: Ask) -> None:
    again, status = ask

    replies = [again(shop) for _ in range(3)]

    assert [reply.status_code for reply in replies] == [status, status, 429]
    assert replies[-1].json is not None and replies[-1].json["code"] == "RATE_LIMIT"
    assert 1 <= int(replies[-1].headers["Retry-After"]) <= 3600


# Bad credentials

BAD = {
    "a session": cookie("A" * 43) | HERE,
    "a bearer token": {"Authorization": "Bearer bad"},
    "no bearer token": {"Authorization": "Basic YWRhOnNlY3JldA=="},
    "an API key": {"X-API-Key": f"xj_{'0' * 16}_{'A' * 43}"},
    "an internal key": {"X-API-Key": f"xi_{'0' * 16}_{'A' * 43}"},
}
EVERY = "/api/tiles"
"""A door that takes all four kinds."""


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_credentials_of_every_kind_are_counted_by_address(
    shop: Shop, bad: dict[str, str]
) -> None:
    def ask(address: str) -> int:
        at = {"REMOTE_ADDR": address}
        return stranger(shop).get(EVERY, headers=bad, environ_overrides=at).status_code

    assert [ask("192.0.2.1") for _ in range(3)] == [401, 401, 429]
    assert ask("192.0.2.2") == 401


def test_a_guess_at_an_owner_test_is_counted_too(shop: Shop) -> None:
    guess = {"X-OWNER-TEST": "true", "Authorization": "Bearer bad"}

    statuses = [shop.client.post(shop.url, json=RAIN, headers=guess).status_code for _ in range(3)]

    assert statuses == [401, 401, 429]


def state(shop: Shop, execution: str, token: str) -> int:
    headers = {"X-Resume-Token": token}
    return stranger(shop).get(f"/executions/{execution}", headers=headers).status_code


def test_guesses_at_a_resume_token_are_counted_and_a_good_one_is_not(shop: Shop) -> None:
    reply = shop.buy()
    execution, token = events(reply)[-1]["executionId"], reply.headers["X-Resume-Token"]

    guesses = [state(shop, execution, "A" * 43) for _ in range(3)]

    assert guesses == [404, 404, 429]
    assert [state(shop, execution, token) for _ in range(4)] == [200] * 4


def test_who_shows_a_good_credential_is_counted_for_nothing(shop: Shop) -> None:
    for method, shown in each_kind(shop):
        statuses = [stranger(shop).get(EVERY, headers=shown).status_code for _ in range(3)]
        assert statuses == [200] * 3, method

    assert bad_token(shop).status_code == 401


def test_somebody_elses_guesses_from_the_same_address_lock_nobody_out(shop: Shop) -> None:
    assert [bad_token(shop).status_code for _ in range(5)] == [401, 401, 429, 429, 429]

    for method, shown in each_kind(shop):
        assert stranger(shop).get(EVERY, headers=shown).status_code == 200, method


# A payer's calls in flight


class Held:
    """Settling waits until it is let go."""

    def __init__(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go = 0, Event()
        paygate = shop.services.paygate
        settle = paygate._settlement.settle

        def wait(*presented: object) -> object:
            self.reached += 1
            assert self.go.wait(20)
            return settle(*presented)  # type: ignore[arg-type]

        monkeypatch.setattr(paygate._settlement, "settle", wait)


@pytest.fixture
def held(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(shop, monkeypatch)
    yield held
    held.go.set()


def present(shop: Shop, payment: dict[str, str]) -> TestResponse:
    return stranger(shop).post(shop.url, json=RAIN, headers=payment, buffered=True)


def test_a_payer_has_so_many_calls_open_at_once_and_is_charged_for_no_other(
    shop: Shop, held: Held
) -> None:
    payments = [shop.payment() for _ in range(PAYER_CALLS + 1)]
    with ThreadPoolExecutor() as callers:
        open_ = [callers.submit(present, shop, each) for each in payments[:-1]]
        assert eventually(lambda: held.reached == PAYER_CALLS)

        refused = present(shop, payments[-1])

        assert refused.status_code == 429
        assert refused.json is not None and refused.json["code"] == "RATE_LIMIT"
        assert refused.headers["Retry-After"] == "1"
        assert len(shop.rows()) == PAYER_CALLS
        held.go.set()
        assert [each.result().status_code for each in open_] == [200] * PAYER_CALLS
    assert len(shop.ledger.transfers()) == PAYER_CALLS
    assert events(present(shop, payments[-1]))[-1]["type"] == "done"
    assert len(shop.ledger.transfers()) == PAYER_CALLS + 1


def test_another_payer_is_not_kept_waiting(shop: Shop, held: Held, tmp_path: Path) -> None:
    other = replace(shop, wallet=type(shop.wallet).open(tmp_path / "other.key"))
    with ThreadPoolExecutor() as callers:
        open_ = [callers.submit(present, shop, shop.payment()) for _ in range(PAYER_CALLS)]
        assert eventually(lambda: held.reached == PAYER_CALLS)
        open_.append(callers.submit(present, shop, other.payment()))
        assert eventually(lambda: held.reached == PAYER_CALLS + 1)

        held.go.set()

        assert [each.result().status_code for each in open_] == [200] * 3


def test_a_payment_presented_many_times_at_once_is_one_call(shop: Shop, held: Held) -> None:
    payment = shop.payment()
    with ThreadPoolExecutor(8) as callers:
        first = callers.submit(present, shop, payment)
        assert eventually(lambda: held.reached)

        again = list(callers.map(lambda _: present(shop, payment).status_code, range(4)))
        held.go.set()

        assert first.result().status_code == 200
    assert set(again) <= {409, 503}  # being executed, or being settled


def test_who_forges_a_payers_signature_takes_none_of_their_places(shop: Shop, held: Held) -> None:
    forged = forge(shop.wallet)
    forged["payload"]["signature"] = "0x" + "11" * 64 + "1b"
    with ThreadPoolExecutor() as callers:
        open_ = [callers.submit(present, shop, shop.payment()) for _ in range(PAYER_CALLS)]
        assert eventually(lambda: held.reached == PAYER_CALLS)

        assert present(shop, headers_of(forged)).status_code == 402  # and not 429

        held.go.set()
        assert [each.result().status_code for each in open_] == [200] * PAYER_CALLS


def test_streams_that_are_paid_for_hold_no_place(shop: Shop) -> None:
    shop.claude.script(*[{"deltaMs": 10}] * (PAYER_CALLS + 2))

    started = [shop.buy() for _ in range(PAYER_CALLS + 2)]  # not read

    assert [reply.status_code for reply in started] == [200] * (PAYER_CALLS + 2)
    assert all(events(reply)[-1]["type"] == "done" for reply in started)


def test_a_call_that_fails_before_it_is_paid_gives_its_place_back(shop: Shop) -> None:
    shop.claude.script(*[{"status": 400}] * (PAYER_CALLS + 1))

    refused = [shop.buy().status_code for _ in range(PAYER_CALLS + 1)]

    assert refused == [502] * (PAYER_CALLS + 1)


# Settlements in flight


def test_more_settlements_than_a_worker_has_hands_for_are_refused_and_cost_nothing(
    shop: Shop, held: Held, tmp_path: Path
) -> None:
    others = [
        replace(shop, wallet=type(shop.wallet).open(tmp_path / f"{number}.key"))
        for number in range(SETTLEMENTS)
    ]
    payment = shop.payment()
    with ThreadPoolExecutor() as callers:
        open_ = [callers.submit(present, shop, other.payment()) for other in others]
        assert eventually(lambda: held.reached == SETTLEMENTS)
        asked = len(shop.claude.calls)

        refused = present(shop, payment)

        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
        assert refused.json is not None and refused.json["code"] == "FACILITATOR_UNAVAILABLE"
        assert (len(shop.rows()), len(shop.claude.calls)) == (SETTLEMENTS, asked)
        held.go.set()
        assert [each.result().status_code for each in open_] == [200] * SETTLEMENTS
    assert events(present(shop, payment))[-1]["type"] == "done"


def test_who_finds_them_all_taken_only_when_it_is_time_to_settle_is_let_go(
    shop: Shop, held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody was let in before anybody began to settle."""
    late, all_in = [], Event()
    still_there = shop.services.paygate.settle

    def wait_for_all(admission: object) -> object:
        late.append(admission)
        if len(late) == SETTLEMENTS + 1:
            all_in.set()
        assert all_in.wait(20)
        return still_there(admission)  # type: ignore[arg-type]

    monkeypatch.setattr(shop.services.paygate, "settle", wait_for_all)
    payers = [
        replace(shop, wallet=type(shop.wallet).open(tmp_path / f"{number}.key"))
        for number in range(SETTLEMENTS + 1)
    ]
    with ThreadPoolExecutor() as callers:
        calls = [callers.submit(present, shop, payer.payment()) for payer in payers]
        assert eventually(lambda: held.reached == SETTLEMENTS, 20)
        assert eventually(lambda: any(call.done() for call in calls))
        held.go.set()

        statuses = sorted(call.result().status_code for call in calls)

    assert statuses == [200] * SETTLEMENTS + [503]
    assert sorted(row["state"] for row in shop.rows()).count("released") == 1
    assert len(shop.ledger.transfers()) == SETTLEMENTS


# Tasks


def test_a_run_that_is_over_its_limit_on_the_task_door_is_told_by_an_event(shop: Shop) -> None:
    door = f"/api/stream/execute-task?taskCoords={shop.ada},0"
    headers = shown_by(shop, "ada", Method.BEARER)

    said = [events(shop.client.get(door, headers=headers))[-1] for _ in range(3)]

    assert said[-1]["type"] == "error"
    assert (said[-1]["code"], said[-1]["recoverable"]) == ("RATE_LIMIT", True)
    assert said[-1]["message"].startswith("Too many tasks. Try again in ")
