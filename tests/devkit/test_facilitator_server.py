"""The facilitator on loopback: what the specification says, and what a script makes of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.adapters.test_facilitator import ASKED, new_wallet, pay
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.devkit.facilitator_server import FacilitatorServer, ScriptError
from x402jobs.domain.networks import DEVELOPMENT


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
def http(server: FacilitatorServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        yield http


def request() -> dict[str, Any]:
    """A good payment, as the specification has a resource server present it."""
    payment = pay(new_wallet())
    return {
        "x402Version": 2,
        "paymentPayload": payment.as_json(ASKED),
        "paymentRequirements": ASKED.as_json(),
    }


def test_it_says_what_it_supports(http):
    assert http.get("/supported").json()["kinds"] == [
        {"x402Version": 2, "scheme": "exact", "network": DEVELOPMENT.id}
    ]


def test_it_verifies_without_moving_and_settles_with_a_transaction(http, ledger):
    body = request()

    assert http.post("/verify", json=body).json()["isValid"] is True
    assert ledger.transfers() == []

    settled = http.post("/settle", json=body).json()

    assert settled["success"] is True
    assert [each.transaction for each in ledger.transfers()] == [settled["transaction"]]


def test_a_script_is_for_one_call_of_its_kind(server, http):
    server.script({"at": "verify", "status": 503}, {"at": "verify", "body": "?"})

    assert http.get("/supported").status_code == 200
    answers = [http.post("/verify", json=request()) for _ in range(3)]

    assert [each.status_code for each in answers] == [503, 200, 200]
    assert answers[1].text == "?" and answers[2].json()["isValid"] is True


@pytest.mark.parametrize(("unheard", "transfers"), [(False, 1), (True, 0)])
def test_an_answer_is_lost_before_or_after_the_work(server, http, ledger, unheard, transfers):
    server.script({"at": "settle", "unheard": unheard, "status": 500, "body": "lost"})

    assert http.post("/settle", json=request()).text == "lost"
    assert len(ledger.transfers()) == transfers


def test_an_answer_can_be_changed_redirected_dripped_and_cut(server, http):
    server.script(
        {"at": "supported", "change": {"kinds": []}},
        {"at": "supported", "status": 307, "headers": {"location": "/settle"}},
        {"at": "supported", "drip": 0.0001, "silence": 0.001},
        {"at": "supported", "cutAt": 5},
    )

    assert http.get("/supported").json()["kinds"] == []
    assert http.get("/supported").headers["location"] == "/settle"
    assert http.get("/supported").json()["kinds"] != []
    with pytest.raises(httpx.RemoteProtocolError):
        http.get("/supported")


def test_it_is_scripted_and_read_over_http_as_well(server, http):
    assert http.post("/control", json=[{"at": "verify", "status": 500}]).json() == {"queued": 1}
    assert http.post("/verify", json=request()).status_code == 500

    assert [call["at"] for call in http.get("/control").json()] == ["verify"]


BAD = {
    "no list": {"at": "verify"},
    "no object": ["verify"],
    "no such door": [{"at": "pay"}],
    "no door": [{"status": 500}],
    "no such field": [{"at": "verify", "colour": "red"}],
    "another kind": [{"at": "verify", "status": "500"}],
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_script_changes_nothing(server, http, what):
    server.script({"at": "verify", "status": 418})

    assert http.post("/control", json=BAD[what]).status_code == 400
    assert http.post("/verify", json=request()).status_code == 418


def test_a_bad_script_names_the_field(server):
    with pytest.raises(ScriptError, match="colour"):
        server.script({"at": "verify", "colour": "red"})


@pytest.mark.parametrize(
    "body", [b"", b"?", b"[]", b"{}", b'{"paymentPayload": {}, "paymentRequirements": {}}']
)
def test_what_is_no_request_is_refused(http, body):
    assert http.post("/settle", content=body).status_code == 400


def test_it_comes_back_at_the_same_address(server, http):
    server.stop()
    with pytest.raises(httpx.ConnectError):
        http.get("/supported")

    server.start()

    assert http.get("/supported").status_code == 200
