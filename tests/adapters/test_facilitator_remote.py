"""A facilitator by URL that is down, slow, garbled or gone: what we make of it."""

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from x402.mechanisms.evm import constants as reasons

from tests.adapters.test_facilitator import ASKED, TRANSACTION, new_wallet, pay
from x402jobs.adapters import facilitator as module
from x402jobs.adapters.facilitator import RemoteFacilitator, X402Facilitator
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.devkit.facilitator_server import FacilitatorServer
from x402jobs.domain.errors import FacilitatorUnavailable
from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.logs import configure_logs
from x402jobs.ports import Settled, Unknown, Verified

SHORT = 0.8
"""A time limit, in seconds, for whoever does not keep it."""

WORDS = "planted words of the facilitator's"
GOOD = {
    "isValid": True,
    "success": True,
    "transaction": TRANSACTION,
    "network": DEVELOPMENT.id,
    "kinds": [{"x402Version": 2, "scheme": "exact", "network": DEVELOPMENT.id}],
}


def instead(**members: Any) -> dict[str, Any]:
    """A whole answer, good for every question but for these members; None leaves one out."""
    said = {name: value for name, value in (GOOD | members).items() if value is not None}
    return {"body": json.dumps(said)}


FAULTS: dict[str, dict[str, Any]] = {
    "HTML": {"status": 502, "body": f"<html>{WORDS}</html>"},
    "HTML that says 200": {"body": f"<html>{WORDS}</html>"},
    "nothing": {"body": ""},
    "a word": {"body": '"OK"'},
    "null": {"body": "null"},
    "a list": {"body": f"[{instead()['body']}]"},
    "half": {"body": instead()["body"][:-20]},
    "another encoding": {"body": "\ufeff" + instead()["body"]},
    "a depth": {"body": '{"isValid":true,"extra":' + "[" * 20_000 + "]" * 20_000 + "}"},
    "an error, nicely worded": {"status": 500} | instead(),
    "a refusal of the request": {"status": 400} | instead(),
    "another kind of success": {"status": 202} | instead(),
    "a redirect": {"status": 307, "headers": {"location": "/settle"}} | instead(),
    "a redirect elsewhere": {"status": 302, "headers": {"location": "http://[::1]:9/"}} | instead(),
    "ten megabytes": {"body": instead()["body"] + " " * 10_000_000},
    "a cut line": {"cutAt": 40},
    "a line cut at once": {"cutAt": 0},
    "a silence": {"silence": 20.0},
    "drops, each in time": {"drip": 0.05},
    "a text for a boolean": instead(isValid="yes", success="yes", kinds="all"),
    "the word true": instead(isValid="true", success="true", kinds="true"),
    "a number for a boolean": instead(isValid=1, success=1, kinds=1),
    "no verdict at all": instead(isValid=None, success=None, kinds=None),
    "wrong types": instead(isValid=[], success={}, transaction=7, kinds={}),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUPPORTED_SECONDS", "VERIFY_SECONDS"):
        monkeypatch.setattr(module, name, SHORT)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[DevelopmentLedger]:
    ledger = DevelopmentLedger(tmp_path / "ledger.sqlite3")
    yield ledger
    ledger.close()


@pytest.fixture
def server(ledger: DevelopmentLedger) -> Iterator[FacilitatorServer]:
    with FacilitatorServer(ledger.facilitator()) as server:
        yield server


@pytest.fixture
def remote(server: FacilitatorServer) -> Iterator[RemoteFacilitator]:
    remote = RemoteFacilitator(server.url)
    yield remote
    remote.close()


@pytest.fixture
def facilitator(remote: RemoteFacilitator) -> X402Facilitator:
    return X402Facilitator(remote, settle_seconds=SHORT)


def patient(remote: RemoteFacilitator) -> X402Facilitator:
    """For what is no matter of time; the machine may be busy."""
    return X402Facilitator(remote, settle_seconds=20)


@pytest.mark.parametrize("how", FAULTS)
def test_a_verdict_that_cannot_be_read_is_none(server, facilitator, ledger, how):
    payment = pay(new_wallet())
    assert facilitator.offers(DEVELOPMENT)
    server.script({"at": "verify"} | FAULTS[how])

    with pytest.raises(FacilitatorUnavailable) as told:
        facilitator.verify(payment, ASKED)

    assert WORDS not in str(told.value) and told.value.__context__ is None
    assert (server.asked("verify"), server.asked("settle")) == (1, 0)
    assert ledger.transfers() == []


@pytest.mark.parametrize("settled", [True, False], ids=["settled", "unheard"])
@pytest.mark.parametrize("how", FAULTS)
def test_a_settlement_whose_answer_cannot_be_read_is_unknown(
    server, facilitator, ledger, how, settled
):
    payment = pay(new_wallet())
    server.script({"at": "settle", "unheard": not settled} | FAULTS[how])

    assert facilitator.settle(payment, ASKED) == Unknown("no_answer")
    assert server.asked("settle") == 1
    until = time.monotonic() + 5  # on a busy machine it settles when nobody waits any more
    while settled and not ledger.transfers() and time.monotonic() < until:
        time.sleep(0.01)
    assert len(ledger.transfers()) == (1 if settled else 0)


@pytest.mark.parametrize("how", FAULTS)
def test_who_does_not_say_what_it_supports_is_offered_nothing(server, facilitator, how):
    server.script({"at": "supported"} | FAULTS[how])

    assert not facilitator.offers(DEVELOPMENT)
    assert server.asked("supported") == 1


def test_a_facilitator_that_is_not_there_gives_no_verdict_and_settles_nothing(server, facilitator):
    payment = pay(new_wallet())
    assert facilitator.offers(DEVELOPMENT)
    server.stop()

    with pytest.raises(FacilitatorUnavailable):
        facilitator.verify(payment, ASKED)
    assert facilitator.settle(payment, ASKED) == Unknown("no_answer")

    server.start()
    assert facilitator.verify(payment, ASKED) == Verified()


LIES = {
    "no transaction": ({"transaction": ""}, "no_transaction"),
    "a transaction that is none": ({"transaction": "0x1"}, "no_transaction"),
    "another payer": ({"payer": "0x" + "dd" * 20}, "not_ours"),
    "another network": ({"network": "eip155:8453"}, "not_ours"),
    "another amount": ({"amount": "1"}, "not_ours"),
}


@pytest.mark.parametrize("how", LIES)
def test_a_success_that_cannot_be_about_this_payment_is_unknown(server, remote, how):
    change, reason = LIES[how]
    server.script({"at": "settle", "change": change})

    assert patient(remote).settle(pay(new_wallet()), ASKED) == Unknown(reason)


def test_ten_megabytes_are_not_read_to_their_end(server, remote, facilitator):
    server.script({"at": "verify"} | FAULTS["ten megabytes"])

    with pytest.raises(FacilitatorUnavailable):
        facilitator.verify(pay(new_wallet()), ASKED)

    server.stop()  # waits for whoever is still writing
    assert [call["hungUp"] for call in server.calls if call["at"] == "verify"] == [True]


def test_the_sdks_second_try_has_no_more_time_than_the_first_has_left(server, facilitator, ledger):
    pending = {"success": False, "errorReason": reasons.ERR_SETTLEMENT_PENDING}
    server.script(
        {"at": "settle", "silence": SHORT * 0.7} | instead(**pending),
        {"at": "settle", "silence": SHORT * 0.7, "unheard": True} | instead(),
    )

    assert facilitator.settle(pay(new_wallet()), ASKED) == Unknown("no_answer")


def test_a_pending_settlement_is_asked_about_once_more(server, remote):
    pending = {"success": False, "errorReason": reasons.ERR_SETTLEMENT_PENDING}
    server.script({"at": "settle"} | instead(**pending), {"at": "settle"} | instead())

    assert patient(remote).settle(pay(new_wallet()), ASKED) == Settled(TRANSACTION)
    assert server.asked("settle") == 2


def test_the_environments_proxies_are_not_asked(server, remote, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert patient(remote).offers(DEVELOPMENT)


def test_questions_share_a_connection_and_none_after_closing(server, remote, monkeypatch):
    dialled: list[Any] = []
    connect = socket.create_connection

    def watched(*arguments: Any, **named: Any) -> socket.socket:
        dialled.append(arguments)
        return connect(*arguments, **named)

    monkeypatch.setattr(socket, "create_connection", watched)
    facilitator, payment = patient(remote), pay(new_wallet())

    assert facilitator.verify(payment, ASKED) == Verified()
    assert isinstance(facilitator.settle(payment, ASKED), Settled)
    assert len(dialled) == 1

    remote.close()
    remote.close()
    assert facilitator.verify(pay(new_wallet()), ASKED) == Verified()
    assert len(dialled) == 2


def test_a_forked_process_does_not_use_its_parents_connections(server, remote):
    facilitator = patient(remote)
    assert facilitator.offers(DEVELOPMENT)
    before = remote.connections.client()

    child = os.fork()
    if child == 0:
        os._exit(0 if remote.connections.client() is not before else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert remote.connections.client() is before


def test_building_one_asks_nobody(server):
    X402Facilitator(RemoteFacilitator(server.url))

    assert server.calls == []


def test_nothing_of_a_payment_or_of_an_answer_is_logged(server, facilitator, caplog):
    payment = pay(new_wallet())
    configure_logs("DEBUG")
    assert facilitator.offers(DEVELOPMENT)
    server.script(*[{"at": at} | FAULTS["HTML"] for at in ("verify", "settle")])
    with pytest.raises(FacilitatorUnavailable):
        facilitator.verify(payment, ASKED)
    facilitator.settle(payment, ASKED)

    said = caplog.text
    assert "verify_unanswered" in said and "settle_unanswered" in said
    for secret in (WORDS, payment.signature.hex(), payment.authorization.nonce):
        assert secret not in said
