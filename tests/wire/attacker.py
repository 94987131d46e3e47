"""What an attacker can make and do, and how to tell what a shop has made of it."""

import base64
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tests.battery.peers import HONEST, BatteryFacilitator
from tests.blueprints.conftest import SEPOLIA, as_v1, forge, on_sepolia
from tests.conftest import PAY_TO, PRICE, encoded
from tests.wire.conftest import Answer, Connection, Server
from x402jobs.devkit.development_ledger import Transfer
from x402jobs.devkit.facilitator_server import Script as Fault
from x402jobs.devkit.wallet import Wallet
from x402jobs.domain.networks import Network
from x402jobs.domain.payment import Authorization

V1, V2 = "X-PAYMENT", "PAYMENT-SIGNATURE"
HAIKU, ODE, EPIC, BOBS = "/@ada/haiku", "/@ada/ode", "/@ada/epic", "/@bob/haiku"
DEAR = 5 * PRICE
BOB = "0x00000000000000000000000000000000000B0B00"
ELSEWHERE = "0x" + "e1" * 20
BODY = b'{"topic":"rain"}'
WORDS = (b"Lanternlight", b"owlsong", b"rainfall")
"""Every answer is these; nothing else that the shop says has one of them."""
TEXT = b" ".join(WORDS).decode()

Document = dict[str, Any]
Headers = list[tuple[str, str]]


# What an attacker can make


def pays(
    wallet: Wallet, price: int = PRICE, to: str = PAY_TO, network: Network = SEPOLIA, **signed: Any
) -> Document:
    """A payment that is good wherever so much is asked for this payee."""
    document = (on_sepolia if network is SEPOLIA else forge)(wallet, price=price, to=to, **signed)
    document["accepted"]["payTo"] = to
    return document


def v1(document: Document) -> Headers:
    return [(V1, encoded(as_v1(document)))]


def v2(document: Document) -> Headers:
    return [(V2, encoded(document))]


def nonce_of(document: Document) -> str:
    nonce: str = document["payload"]["authorization"]["nonce"]
    return nonce


def authorization(signed: Mapping[str, str], **changes: Any) -> Authorization:
    """What was signed, as the ledger moves it for whoever brings it."""
    return replace(
        Authorization(
            payer=signed["from"].lower(),
            to=signed["to"].lower(),
            value=int(signed["value"]),
            valid_after=int(signed["validAfter"]),
            valid_before=int(signed["validBefore"]),
            nonce=signed["nonce"],
        ),
        **changes,
    )


def changed(document: Document, part: str = "accepted", **changes: Any) -> Document:
    """What no signature covers, or what one should have: changed afterwards."""
    inner = document if part == "" else document[part]
    (inner["authorization"] if part == "payload" else inner).update(changes)
    return document


def shouted(document: Document) -> Document:
    """The same authorization, its hexadecimals in capitals."""
    copy: Document = json.loads(json.dumps(document))
    signed = copy["payload"]["authorization"]
    for name in ("from", "to", "nonce"):
        signed[name] = "0x" + signed[name][2:].upper()
    return copy


def joined(first: Document, second: Document, by: str) -> Headers:
    return [(V2, encoded(first) + by + encoded(second))]


def twice_in_one(first: Document, second: Document) -> Headers:
    """JSON in which a name comes twice: some parsers take the first, some the last."""
    text = json.dumps(first)[:-1] + ', "payload": ' + json.dumps(second["payload"]) + "}"
    return [(V2, encoded_text(text))]


def encoded_text(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# What an attacker can do


def leave(server: Server, balance: int) -> None:
    """Let the wallet have only so much, in micro-dollars."""
    too_much = server.balance() - balance
    give(server, server.wallet.address, ELSEWHERE, too_much)


_gifts = itertools.count(1)


def give(server: Server, payer: str, payee: str, value: int) -> None:
    nonce = f"0x{next(_gifts):064x}"
    server.ledger.move(Authorization(payer, payee, value, 0, 2**40, nonce))


def leave_alone(facilitator: BatteryFacilitator) -> None:
    """Nobody comes in between, and it is honest."""
    facilitator.before, facilitator.play = (lambda *_: None), (lambda *_: HONEST)


def tells(fault: Fault) -> Callable[[str, str, Document], Fault]:
    """What to let a facilitator play whose word on settling is not to be trusted."""
    return lambda at, nonce, signed: fault if at == "settle" else HONEST


# What a shop is asked and what has become of it


def present(
    server: Server,
    headers: Headers,
    body: bytes | None = BODY,
    *,
    path: str = HAIKU,
    method: str = "POST",
    port: int | None = None,
) -> Answer:
    with Connection(port or server.port) as connection:
        return connection.send(method, path, headers, body).answer(method)


def answered(answer: Answer) -> bool:
    """Whether the words were told: all of them with 200, or none of them with anything else."""
    told = [word in answer.body for word in WORDS]
    assert all(told) or not any(told), "some of an answer"
    assert all(told) == (answer.status == 200), answer
    return all(told)


def refused(answer: Answer) -> tuple[int, str]:
    assert not answered(answer)
    return answer.status, answer.json()["code"]


def unknown(answer: Answer) -> bool:
    """Neither an answer nor a new price: the same payment is to be shown again."""
    assert "payment-required" not in answer.headers
    return refused(answer) == (503, "SETTLEMENT_UNKNOWN") and int(answer.headers["retry-after"]) > 0


def sold(server: Server) -> list[Transfer]:
    """What has moved to a creator."""
    payees = {PAY_TO.lower(), BOB.lower()}
    return [each for each in server.transfers() if each.payee in payees]


def prompts(server: Server) -> list[str]:
    """Which templates Claude was asked to be."""
    return [call["body"]["system"].split()[2].rstrip(".") for call in server.claude.calls]


def nothing_happened(server: Server) -> bool:
    return (server.rows(), server.transfers(), server.claude.calls) == ([], [], [])


def bought_once(server: Server) -> bool:
    return (len(server.claude.calls), len(sold(server)), server.states()) == (1, 1, ["completed"])
