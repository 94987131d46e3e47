"""The way to the project's database: it breaks in every way, and nobody is told what is not so."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.contract.conftest import HAIKU
from tests.supabase import front
from tests.supabase.front import Fault, answer, page, refusal
from tests.supabase.rig import Rig
from tests.supabase.rig import rig as project
from tests.waiting import eventually
from x402jobs.adapters.supabase import database as module
from x402jobs.adapters.supabase import supabase_store
from x402jobs.adapters.supabase.database import AT_ONCE, Database
from x402jobs.domain.errors import StoreUnavailable
from x402jobs.domain.secret import Secret

ROOT = Path(__file__).resolve().parents[2]
ADA = "00000000-0000-4000-8000-00000000ada0"
CANARY = "sb_secret_planted_vendor_words"
"""In what the vendor says: it must come out nowhere."""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A project of its own: where others have asked before, a new `function` is not seen."""
    with project() as running:
        yield running


@pytest.fixture
def edge(rig):
    """The rig's front, well again before and after."""
    rig.front.forget()
    yield rig.front
    rig.front.forget()


@pytest.fixture
def database(rig, edge):
    database = Database(rig.url, Secret(rig.secret_key))
    yield database
    database.close()


@pytest.fixture
def hurried(monkeypatch):
    """Fewer tries, and sooner. What does answer has all its time, on a busy machine too."""
    monkeypatch.setattr(module, "PAUSES", (0.01, 0.01))


ONCE = {
    "an answer that is lost": front.LOST,
    "an answer lost by a reset": front.LOST_BY_RESET,
    "a request that never came": front.NEVER_CAME,
    "half an answer": Fault(length=60),
    "a head alone": front.HALF,
    "a gateway without its project": page(502),
    "a gateway that did not wait": page(504, carried_out=True),
    "a page of somebody else's": Fault(says=answer(200, "<html>sign in</html>", "text/html")),
    "no words at all": Fault(says=answer(200, "")),
    "another shape": Fault(says=answer(200, '{"message": "hello"}')),
    "too many requests": refusal(429, message=CANARY),
    "a database that starts": refusal(503, code="PGRST001", message=CANARY),
    "a database that stops": refusal(500, code="57P01", message=CANARY),
}


@pytest.mark.parametrize("fault", ONCE.values(), ids=ONCE)
def test_what_goes_wrong_twice_is_asked_a_third_time(database, edge, hurried, fault) -> None:
    edge.meet(fault, fault)

    assert database.call("x402_uuid_text", given=ADA) == ADA
    assert edge.asked == ["x402_uuid_text"] * 3


@pytest.fixture(autouse=True)
def function(rig):
    """A function that answers as ours do."""
    rig.sql("""
        create or replace function public.x402_uuid_text(given text) returns text
        language sql set search_path = '' as $$ select to_jsonb(public.x402_uuid(given))::text $$
    """)
    yield
    rig.sql("drop function public.x402_uuid_text")


KEY = "SUPABASE_SECRET_KEY is not taken by this project"
MIGRATE = "the project lacks this function: run x402jobs migrate"
NO_ANSWER = "no answer in time"
FAULTS = [
    # what happens, how often it is asked, status, code, what an operator reads
    (front.LOST, 3, None, None, "the connection broke"),
    (front.LOST_BY_RESET, 3, None, None, "the connection broke"),
    (Fault(length=60), 3, None, None, "the connection broke"),
    (Fault(late_seconds=1), 3, None, None, NO_ANSWER),
    (Fault(pace=0.1), 3, None, None, NO_ANSWER),
    (page(502), 3, 502, None, "the project failed to answer"),
    (page(503), 3, 503, None, "the project failed to answer"),
    (page(504), 3, 504, None, "the project failed to answer"),
    (page(530), 3, 530, None, "the project failed to answer"),
    (page(540), 1, 540, None, "the project is paused: restore it in its dashboard"),
    (refusal(402, message=CANARY), 1, 402, None,
     "the project is restricted: see its dashboard, Billing"),
    (page(404), 1, 404, None, "no Supabase project answers at SUPABASE_URL"),
    (page(302), 1, 302, None, "SUPABASE_URL leads elsewhere"),
    (refusal(429, message=CANARY), 3, 429, None, "the project refused the request"),
    (refusal(401, message=CANARY, hint=CANARY), 1, 401, None, KEY),
    (refusal(401, code="PGRST301", message=CANARY), 1, 401, "PGRST301", KEY),
    (refusal(403, code="42501", message=CANARY), 1, 403, "42501",
     "SUPABASE_SECRET_KEY may not do this: is it the secret key?"),
    (refusal(404, code="PGRST202", message=CANARY), 1, 404, "PGRST202", MIGRATE),
    (refusal(404, code="42883", message=CANARY), 1, 404, "42883",
     "the project lacks a function: run x402jobs migrate"),
    (refusal(400, code="42703", message=CANARY), 1, 400, "42703",
     "the project lacks a column: run x402jobs migrate"),
    (refusal(503, code="PGRST002", message=CANARY), 3, 503, "PGRST002",
     "the project's API cannot reach its database"),
    (refusal(405, code="25006", message=CANARY), 3, 405, "25006",
     "the database is read-only: is its disk full?"),
    (refusal(503, code="53300", message=CANARY), 3, 503, "53300",
     "the database has no room, or no connection left"),
    (refusal(500, code="57014", message=CANARY), 3, 500, "57014",
     "the database took too long and gave the question up"),
    (refusal(500, code="57P03", message=CANARY), 3, 500, "57P03",
     "the database is stopping or starting"),
    (refusal(409, code="23505", message=CANARY), 1, 409, "23505",
     "the database refused what it was asked"),
    (refusal(500, code=CANARY, message=CANARY), 3, 500, None, "the project failed to answer"),
    (Fault(says=answer(200, f"<html>{CANARY}</html>", "text/html")), 3, None, None,
     "what answered is no function of ours"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "tries", "status", "code", "reason"), FAULTS)
def test_every_fault_ends_soon_and_tells_the_operator_alone(
    database, edge, hurried, monkeypatch, rig, fault, tries, status, code, reason
) -> None:
    if reason == NO_ANSWER:
        monkeypatch.setattr(module, "TRY_SECONDS", 0.4)
    edge.always(fault)

    began = time.monotonic()
    with capture_logs() as lines, pytest.raises(StoreUnavailable) as raised:
        database.call("x402_uuid_text", given=CANARY)

    assert time.monotonic() - began < 10
    assert edge.asked == ["x402_uuid_text"] * tries
    *_, line = lines
    assert line == {
        "event": "store_unavailable", "log_level": "warning", "function": "x402_uuid_text",
        "reason": reason, "status": status, "code": code,
    }  # fmt: skip
    said = f"{lines} {raised.value!r} {raised.value.__cause__!r} {raised.value.__context__!r}"
    assert CANARY not in said and rig.secret_key not in said and "http:" not in said


def test_a_project_where_nobody_listens(database, edge, hurried) -> None:
    with edge.refusing(), capture_logs() as lines, pytest.raises(StoreUnavailable):
        database.call("x402_uuid_text", given=ADA)

    assert lines[-1]["reason"] == "nobody takes connections at SUPABASE_URL"
    assert database.call("x402_uuid_text", given=ADA) == ADA


@pytest.mark.parametrize(
    ("key", "function", "reason"),
    [
        ("sb_secret_of_another_project", "x402_uuid_text", KEY),
        (None, "x402_not_migrated", MIGRATE),
    ],
)
def test_what_the_project_itself_says_is_understood(rig, edge, key, function, reason) -> None:
    database = Database(rig.url, Secret(key or rig.secret_key))

    with capture_logs() as lines, pytest.raises(StoreUnavailable):
        database.call(function, given=ADA)

    assert lines[-1]["reason"] == reason
    assert edge.asked == [function]
    database.close()


def test_no_more_than_ten_ask_at_once_and_who_waits_too_long_is_told(
    database, edge, monkeypatch
) -> None:
    edge.always(Fault(seconds=0.05))
    with ThreadPoolExecutor(60) as pool:
        said = list(pool.map(lambda _: database.call("x402_uuid_text", given=ADA), range(60)))

    assert said == [ADA] * 60
    assert (edge.most_at_once, edge.connections) == (AT_ONCE, AT_ONCE)

    monkeypatch.setattr(module, "QUEUE_SECONDS", 0.1)
    edge.always(Fault(seconds=1))
    with ThreadPoolExecutor(AT_ONCE + 1) as pool, capture_logs() as lines:
        asking = [
            pool.submit(database.call, "x402_uuid_text", given=ADA) for _ in range(AT_ONCE + 1)
        ]
        errors = [each.exception() for each in asking]

    assert Counter(type(each) for each in errors) == {type(None): AT_ONCE, StoreUnavailable: 1}
    assert lines[-1]["reason"] == "too many questions wait"


def test_a_worker_beats_past_whoever_waits(database, edge) -> None:
    edge.rule = lambda asked: Fault(seconds=1) if asked.name == "x402_uuid_text" else None
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asking = [pool.submit(database.call, "x402_uuid_text", given=ADA) for _ in range(AT_ONCE)]
        assert eventually(lambda: edge.at_once == AT_ONCE)

        database.call("x402_beat", worker="w1")

        assert not any(each.done() for each in asking)


def test_no_proxy_of_the_environment_comes_between(rig, edge, monkeypatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    database = Database(rig.url, Secret(rig.secret_key))

    assert database.call("x402_uuid_text", given=ADA) == ADA
    database.close()


def test_a_forked_process_makes_a_connection_of_its_own(database, edge) -> None:
    database.call("x402_uuid_text", given=ADA)

    if (child := os.fork()) == 0:
        said = None
        try:
            said = database.call("x402_uuid_text", given=ADA)
        finally:
            os._exit(0 if said == ADA else 1)
    status = os.waitpid(child, 0)[1]

    assert status == 0
    assert edge.connections == 2
    assert database.call("x402_uuid_text", given=ADA) == ADA
    assert edge.connections == 2


def test_a_line_that_was_hung_up_on_is_made_anew(database, edge) -> None:
    for _ in range(3):
        assert database.call("x402_uuid_text", given=ADA) == ADA
        edge.hang_up()


class Thief:
    """Loses the answers of a third of all writes once, and of a ninth twice in a row."""

    def __init__(self) -> None:
        self._tries: Counter[str] = Counter()
        self._writes: dict[str, int] = {}
        self.lost = 0

    def __call__(self, request: front.Request) -> Fault | None:
        asked = json.dumps(request.arguments | {"again": None}, sort_keys=True)
        tries, number = self._tries[asked], self._writes.setdefault(asked, len(self._writes))
        self._tries[asked] += 1
        if (tries, number % 3) == (0, 0) or (tries, number % 9) == (1, 0):
            self.lost += 1
            return front.LOST if number % 2 else front.LOST_BY_RESET
        return None


MEMBERS = 170


@pytest.mark.parametrize("kind", ["greenlets", "threads"])
def test_of_500_writes_at_once_none_is_lost_and_none_is_said_to_have_failed(
    rig, edge, kind
) -> None:
    rig.empty()
    store = supabase_store(rig.url, Secret(rig.secret_key))
    ada = store.catalogue.add_user("ada")
    store.catalogue.add_template(replace(HAIKU, owner_id=ada))
    store.database.close()
    edge.forget()
    edge.turnover = 4
    edge.rule = thief = Thief()

    ran = subprocess.run(
        [sys.executable, "-m", "tests.supabase.crowd", kind, str(MEMBERS)],
        cwd=ROOT,
        env={**os.environ, **rig.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )

    told = json.loads(ran.stdout or "{}")
    assert Counter(map(tuple, told.values())) == {("claimed", "settling", "settled"): MEMBERS}, (
        ran.stderr[-2000:]
    )
    rows = rig.sql("select id, state, attempt, transaction from x402_executions")
    assert {row["id"]: (row["state"], row["attempt"], row["transaction"]) for row in rows} == {
        name: ("settled", 1, f"0x{name}") for name in told
    }
    assert thief.lost > MEMBERS and edge.connections > MEMBERS
    assert edge.most_at_once <= AT_ONCE
