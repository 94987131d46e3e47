"""What two papers do to shops that sell over HTTP 402, done to this one, attack by attack.

"Five Attacks on x402" (arXiv 2605.11781) names revert-grant, preemption, replay, the web layer
(caches, and headers that two parsers read differently) and server selection; "Free-Riding the
Agentic Web" (arXiv 2605.30998) names cross-resource substitution, the duplicate-settlement race,
allowance overdraft and denial of settlement. Each attacker wants an answer that nobody has paid
for, or to make somebody pay for one they do not get.
"""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Barrier, Event

import pytest
from x402 import x402FacilitatorSync

from tests.battery.liars import CLAIMED, DENIED
from tests.battery.money import ledgers
from tests.battery.peers import BatteryFacilitator
from tests.blueprints.conftest import SEPOLIA, as_v1
from tests.conftest import CREATOR_KEY, PAY_TO, PRICE, decoded, encoded
from tests.waiting import eventually
from tests.wire.attacker import (
    BOB,
    BOBS,
    BODY,
    DEAR,
    ELSEWHERE,
    EPIC,
    HAIKU,
    ODE,
    TEXT,
    V1,
    V2,
    WORDS,
    Document,
    Headers,
    answered,
    authorization,
    bought_once,
    changed,
    encoded_text,
    give,
    joined,
    leave,
    leave_alone,
    nonce_of,
    nothing_happened,
    pays,
    present,
    prompts,
    refused,
    shouted,
    sold,
    tells,
    twice_in_one,
    unknown,
    v1,
    v2,
)
from tests.wire.caching_nginx import Cache, caching
from tests.wire.conftest import Answer, Connection, Server, serving
from x402jobs.devkit.facilitator_server import Script as Fault
from x402jobs.devkit.wallet import Wallet
from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.domain.secret import Secret
from x402jobs.domain.template_draft import TemplateDraft
from x402jobs.stores import audit

pytestmark = pytest.mark.wire

HURRY = {
    "x402jobs.services.caretaker.BEAT_SECONDS": 0.3,
    "x402jobs.services.recovery.PAUSE_SECONDS": 0.2,
    "x402jobs.services.settlement.CONFIRM_SECONDS": 0.3,
    "x402jobs.services.settlement.LOOK_SECONDS": 0.05,
    "x402jobs.adapters.facilitator.availability.FAILURES": 1_000_000,
}
"""How long somebody waits; and a facilitator that fails in one test is not down in the next."""


@pytest.fixture(scope="module")
def facilitator(directory: Path) -> Iterator[BatteryFacilitator]:
    """Verifies and settles on the play money of both networks, and can be come in between."""
    both = ledgers(directory / "data")
    joined = both[1].join(both[0].join(x402FacilitatorSync()))
    with BatteryFacilitator(joined) as server:
        yield server
    for ledger in both:
        ledger.close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacked")


@pytest.fixture(scope="module")
def attacked(directory: Path, facilitator: BatteryFacilitator) -> Iterator[Server]:
    """A shop on two workers. Its ledger is the second network's, which version 1 has a name for."""
    with ExitStack() as stack:
        shop = stack.enter_context(
            serving(
                directory,
                app="tests.battery.wsgi:app",
                GUNICORN_CMD_ARGS="--workers 2",
                BATTERY_FACILITATOR=facilitator.url,
                BATTERY_HURRY=json.dumps(HURRY),
            )
        )
        bob = shop.store.catalogue.add_user("bob")
        shop.services.integrations.save_claude_config(bob, Secret(CREATOR_KEY))
        shop.services.integrations.save_pay_to(bob, BOB)
        for owner, path, price in (
            (shop.ada, HAIKU, PRICE),
            (shop.ada, ODE, PRICE),
            (shop.ada, EPIC, DEAR),
            (bob, BOBS, PRICE),
        ):
            publish(shop, owner, path.rpartition("/")[2], f"You are {path}.", price)
        ledger = ledgers(shop.settings.data)[1]
        stack.callback(ledger.close)
        yield replace(shop, ledger=ledger)


def publish(shop: Server, owner: str, slug: str, prompt: str, price: int) -> None:
    draft = TemplateDraft(
        slug=slug,
        name=slug,
        price=price,
        system_prompt=f"{prompt} {{topic}}{{/topic}}",
        parameters=[{"name": "topic"}],
    )
    shop.services.resources.publish(owner, draft)


@pytest.fixture
def server(attacked: Server, facilitator: BatteryFacilitator, tmp_path: Path) -> Iterator[Server]:
    """The shop, met with a new wallet. Afterwards every row has ended, and the books are right."""
    leave_alone(facilitator)
    visited = attacked.visit(Wallet.open(tmp_path / "wallet.key"))
    visited.claude.script(*[{"text": TEXT}] * 40)
    yield visited
    leave_alone(facilitator)
    ended = {"completed", "refund_due", "released"}
    assert eventually(lambda: set(visited.states()) <= ended), visited.states()
    assert not audit(visited.settings).check().broken
    bought = [row["transaction"] for row in visited.rows() if row["state"] != "released"]
    assert sorted(bought) == sorted(each.transaction for each in sold(visited))


@pytest.fixture(scope="module")
def cache(attacked: Server, directory: Path) -> Iterator[Cache]:
    with caching(directory / "nginx", attacked.port) as ports:
        yield ports


# Cross-resource substitution


SUBSTITUTED: Mapping[str, Callable[[Server], tuple[Headers, str]]] = {
    "a cheap template's": lambda shop: (v2(pays(shop.wallet)), EPIC),
    "a cheap template's, the dear one accepted": lambda shop: (
        v2(changed(pays(shop.wallet), amount=str(DEAR))),
        EPIC,
    ),
    "a cheap template's, raised after signing": lambda shop: (
        v2(changed(changed(pays(shop.wallet), amount=str(DEAR)), "payload", value=str(DEAR))),
        EPIC,
    ),
    "a cheap template's, in version 1": lambda shop: (v1(pays(shop.wallet)), EPIC),
    "a cheap template's, said to be for the dear one": lambda shop: (
        v2(changed(pays(shop.wallet), "", resource={"url": shop.url + EPIC})),
        EPIC,
    ),
    "a dear template's": lambda shop: (v2(pays(shop.wallet, DEAR)), HAIKU),
    "another creator's": lambda shop: (v2(pays(shop.wallet)), BOBS),
    "another creator's, this one accepted": lambda shop: (
        v2(changed(pays(shop.wallet), payTo=BOB)),
        BOBS,
    ),
    "another creator's, redirected after signing": lambda shop: (
        v2(changed(changed(pays(shop.wallet), payTo=BOB), "payload", to=BOB)),
        BOBS,
    ),
    "another creator's, in version 1": lambda shop: (v1(pays(shop.wallet)), BOBS),
    "another network's money": lambda shop: (
        v2(
            changed(pays(shop.wallet, network=DEVELOPMENT), network=SEPOLIA.id, asset=SEPOLIA.token)
        ),
        HAIKU,
    ),
    "another network's name": lambda shop: (
        v2(changed(pays(shop.wallet), network=DEVELOPMENT.id, asset=DEVELOPMENT.token)),
        HAIKU,
    ),
    "another network asked for": lambda shop: (
        v2(pays(shop.wallet)),
        f"{HAIKU}?network={DEVELOPMENT.id}",
    ),
}


@pytest.mark.parametrize("what", SUBSTITUTED)
def test_cross_resource_substitution_buys_nothing_that_was_not_signed_for(
    server: Server, what: str
) -> None:
    """A payment for one thing is presented for another. The signed payee, amount and network
    decide; what the payment says it was for does not."""
    headers, path = SUBSTITUTED[what](server)

    answer = present(server, headers, path=path)

    assert refused(answer) == (402, "PAYMENT_REQUIRED")
    assert nothing_happened(server)


@pytest.mark.parametrize("wrapping", [v1, v2])
@pytest.mark.parametrize("query", ["", "?stream=false"])
def test_cross_resource_substitution_between_equals_buys_one_of_them(
    server: Server, query: str, wrapping: Callable[[Document], Headers]
) -> None:
    """Nothing that is signed tells two templates of one price and one creator apart, nor two
    bodies. The first of them is bought, and the payment is good for no other."""
    document = changed(pays(server.wallet), "", resource={"url": server.url + ODE})
    headers = wrapping(document)

    bought = present(server, headers, path=HAIKU + query)
    others = [
        present(server, v2(document), path=ODE + query),
        present(server, v1(document), path=ODE),
        present(server, headers, b'{"topic":"snow"}', path=HAIKU + query),
        present(server, headers, None, method="GET", path=HAIKU + "?topic=snow"),
        present(server, headers, path=BOBS),
        present(server, headers, path=EPIC),
    ]

    assert answered(bought)
    assert {refused(each) for each in others} == {(409, "CONFLICT")}
    assert bought_once(server)
    assert prompts(server) == [HAIKU]


@pytest.mark.parametrize(
    "path",
    [
        *("/@ada/haiku/../epic", "/@ada/haiku/%2e%2e/epic", "/@ada/haiku%2f..%2fepic"),
        *("/@ada/epic/../epic", "//@ada/epic", "/@ada//epic", "/@ada/epic%00/../haiku"),
        *("/@ada/epic;/../haiku", "/@ada/epic/.", "/@ada/%65pic", "/@ADA/EPIC"),
    ],
)
@pytest.mark.parametrize("front", ["gunicorn", "nginx"])
def test_cross_resource_substitution_by_an_address_with_two_readings(
    server: Server, cache: Cache, front: str, path: str
) -> None:
    """Somebody in front reads the cheap template's address, and we the dear one's."""
    port = cache.heeds if front == "nginx" else server.port

    answer = present(server, v2(pays(server.wallet)), path=path, port=port)

    assert not answered(answer)
    assert answer.status in (400, 402, 404, 405)
    assert nothing_happened(server)


@pytest.mark.parametrize(
    "name", ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Uri", "X-Accel-Redirect"]
)
def test_cross_resource_substitution_by_a_header_that_renames_the_request(
    server: Server, cache: Cache, name: str
) -> None:
    """Some frameworks believe such a header; here it changes nothing."""
    headers = v2(pays(server.wallet)) + [(name, EPIC), ("X-HTTP-Method-Override", "GET")]

    answers = [present(server, headers, port=port) for port in (server.port, cache.heeds)]

    assert all(map(answered, answers))
    assert bought_once(server)
    assert prompts(server) == [HAIKU]


# Duplicate-settlement race


@contextmanager
def on_every_worker(server: Server, number: int) -> Iterator[list[Connection]]:
    """So many open connections, in turn to each of the two workers: one has to stand still while
    the other accepts."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    workers = [int(pid) for pid in children.read_text().split()]
    with ExitStack() as stack:
        dialled: list[list[Connection]] = []
        for other in workers:
            os.kill(other, signal.SIGSTOP)
            try:
                its = [stack.enter_context(server.dial()) for _ in range(number // 2)]
                for connection in its:
                    assert connection.send("GET", "/healthz").answer("GET").status == 200
            finally:
                os.kill(other, signal.SIGCONT)
            dialled.append(its)
        yield [each for pair in zip(*dialled, strict=True) for each in pair]


def race(
    server: Server, facilitator: BatteryFacilitator, ways: list[tuple[Headers, str, bytes]]
) -> list[Answer]:
    """Each way on a connection of its own, all at once, half of them on either worker.

    Whoever gets as far as the facilitator waits there until all others have been answered.
    """
    together, others_are_told, told = Barrier(len(ways)), Event(), list[Answer]()

    def hold(at: str, signed: Mapping[str, str]) -> None:
        if at == "verify":
            others_are_told.wait(10)

    def come(connection: Connection, way: tuple[Headers, str, bytes]) -> Answer:
        headers, path, body = way
        together.wait(10)
        answer = connection.send("POST", path, headers, body).answer()
        told.append(answer)
        if len(told) >= len(ways) - 1:
            others_are_told.set()
        return answer

    facilitator.before = hold
    with on_every_worker(server, len(ways)) as lines, ThreadPoolExecutor(len(ways)) as callers:
        return list(callers.map(come, lines, ways))


RACES: Mapping[str, Callable[[Document], list[tuple[Headers, str, bytes]]]] = {
    "one request": lambda paid: [(v2(paid), HAIKU, BODY)] * 8,
    "both wrappings": lambda paid: [(wrap(paid), HAIKU, BODY) for wrap in (v1, v1, v2, v2)] * 2,
    "two templates": lambda paid: [(v2(paid), path, BODY) for path in (HAIKU, HAIKU, ODE, ODE)] * 2,
    "as many bodies": lambda paid: [
        (v2(paid), HAIKU, json.dumps({"topic": f"rain {number}"}).encode()) for number in range(8)
    ],
    "two letter cases": lambda paid: (
        [(v2(spelled), HAIKU, BODY) for spelled in (paid, paid, shouted(paid), shouted(paid))] * 2
    ),
    "stream and one piece": lambda paid: (
        [(v2(paid), HAIKU + query, BODY) for query in ("", "", "?stream=false", "?stream=false")]
        * 2
    ),
}


@pytest.mark.parametrize("what", RACES)
def test_duplicate_settlement_race_is_won_by_one(
    server: Server, facilitator: BatteryFacilitator, what: str
) -> None:
    """One authorization is presented many times before the first has settled, so that each finds
    it unused. One is let in, one run and one transfer follow, and the others are refused."""
    answers = race(server, facilitator, RACES[what](pays(server.wallet)))

    assert Counter(map(answered, answers)) == {True: 1, False: 7}
    assert {refused(each)[0] for each in answers if each.status != 200} == {409}
    assert bought_once(server)


# Allowance overdraft


def test_allowance_overdraft_is_answered_no_further_than_the_money_goes(
    server: Server, facilitator: BatteryFacilitator
) -> None:
    """Many authorizations of one balance, each of which it would cover, are verified before the
    first is settled. Only those that are really settled get an answer; the rest get not one byte
    and can be used when there is money again."""
    leave(server, 4 * PRICE - 1)
    documents = [pays(server.wallet) for _ in range(8)]
    all_verified = Barrier(len(documents))

    def wait(at: str, _: object) -> None:
        if at == "settle":
            all_verified.wait(10)

    facilitator.before = wait

    with ThreadPoolExecutor(len(documents)) as callers:
        answers = list(callers.map(lambda each: present(server, v2(each)), documents))

    assert Counter(map(answered, answers)) == {True: 3, False: 5}
    told = {refused(each) for each in answers if each.status != 200}
    assert told == {(402, "PAYMENT_REQUIRED")}
    assert len(sold(server)) == 3
    assert server.balance() == PRICE - 1
    assert Counter(server.states()) == {"completed": 3, "released": 5}

    leave_alone(facilitator)
    (denied, *_) = [
        each for each, told in zip(documents, answers, strict=True) if told.status != 200
    ]
    give(server, ELSEWHERE, server.wallet.address, 1)
    assert answered(present(server, v1(denied)))
    assert server.balance() == 0


def test_allowance_overdraft_by_a_price_that_would_be_found_out_later(server: Server) -> None:
    """A payment of "up to" an amount would be settled after the answer, for what it then costs or
    less. Ours is the exact price, and no other scheme is taken."""
    answer = present(server, v2(changed(pays(server.wallet, DEAR), scheme="upto")), path=EPIC)

    assert refused(answer) == (402, "PAYMENT_REQUIRED")
    assert nothing_happened(server)


# Denial of settlement, revert-grant and preemption


def test_denial_of_settlement_by_a_payer_who_is_drained_in_between(
    server: Server, facilitator: BatteryFacilitator
) -> None:
    """The payer moves the balance away after it was verified and before it is settled, hoping that
    the answer is on its way already."""
    server.claude.script({"text": TEXT, "afterDeltas": 1, "stallSeconds": 10})
    facilitator.before = lambda at, _: leave(server, 0) if at == "settle" else None

    answer = present(server, v2(pays(server.wallet)))

    assert refused(answer) == (402, "PAYMENT_REQUIRED")
    assert decoded(answer.headers["payment-response"])["success"] is False
    assert (sold(server), server.states()) == ([], ["released"])
    assert eventually(lambda: server.call()["hungUp"]), "Claude was listened to all the same"


def test_denial_of_settlement_by_a_nonce_that_is_spent_in_between(
    server: Server, facilitator: BatteryFacilitator
) -> None:
    """The payer burns the nonce on something else: what was verified can never be settled. It is
    not taken for ours because its nonce is used."""

    def burn(at: str, signed: Mapping[str, str]) -> None:
        if at == "settle":
            server.ledger.move(authorization(signed, to=ELSEWHERE, value=1))

    facilitator.before = burn

    answer = present(server, v2(pays(server.wallet)))

    assert refused(answer) == (402, "PAYMENT_REQUIRED")
    assert (sold(server), server.states()) == ([], ["released"])


UNSETTLED = {
    "is limited": Fault("settle", unheard=True, status=429, body="slow down"),
    "is away": Fault("settle", unheard=True, cutAt=0),
    "says that it has failed": Fault("settle", unheard=True, change=DENIED),
    "says that it has settled": Fault("settle", unheard=True, change=CLAIMED),
}
"""Nothing has moved, whatever the facilitator says."""


@pytest.mark.parametrize("how", UNSETTLED)
def test_denial_of_settlement_and_revert_grant_give_nothing_away_while_nothing_has_moved(
    server: Server, facilitator: BatteryFacilitator, how: str
) -> None:
    """The facilitator is kept from settling, or its transaction reverts after it has reported
    success. Not a byte leaves before the chain shows the transfer, and then the payer gets it."""
    facilitator.play = tells(UNSETTLED[how])
    headers = v2(pays(server.wallet))

    assert unknown(present(server, headers))
    assert unknown(present(server, headers))
    assert sold(server) == []

    leave_alone(facilitator)
    assert eventually(lambda: answered(present(server, headers)))
    assert len(sold(server)) == 1
    assert server.states() == ["completed"]


SETTLED = {
    "is not heard": Fault("settle", cutAt=0),
    "says that it has failed": Fault("settle", change=DENIED),
    "is limited once it has settled": Fault("settle", status=429, body="slow down"),
}
"""The money has moved, whatever the facilitator says."""


@pytest.mark.parametrize("how", SETTLED)
def test_denial_of_settlement_denies_nothing_to_who_has_paid(
    server: Server, facilitator: BatteryFacilitator, how: str
) -> None:
    """The other way round: the payment is taken, and its payer is to be told that it was not."""
    facilitator.play = tells(SETTLED[how])

    answer = present(server, v2(pays(server.wallet)))

    assert answered(answer)
    assert bought_once(server)


def test_preemption_of_the_settlement_denies_nothing_to_who_has_paid(
    server: Server, facilitator: BatteryFacilitator
) -> None:
    """Whoever sees an authorization can settle it, so that the facilitator's own transaction fails.
    The creator has the money all the same, and the payer the answer, with that transaction."""

    def overtake(at: str, signed: Mapping[str, str]) -> None:
        if at == "settle":
            server.ledger.move(authorization(signed))

    facilitator.before = overtake

    answer = present(server, v2(pays(server.wallet)))

    assert answered(answer)
    (transfer,) = sold(server)
    assert decoded(answer.headers["payment-response"])["transaction"] == transfer.transaction
    assert bought_once(server)


def test_preemption_by_a_transfer_that_was_for_something_else_buys_nothing(server: Server) -> None:
    """What was settled before it was presented here may have bought something at another shop of
    the same creator's, and is there for everybody to read."""
    document = pays(server.wallet)
    server.ledger.move(authorization(document["payload"]["authorization"]))

    answer = present(server, v2(document))

    assert refused(answer) == (402, "PAYMENT_REQUIRED")
    assert server.states() == ["released"]
    assert server.claude.calls == []
    server.first_transfer += 1  # that one belongs in no row of ours


# Replay


def test_replay_of_one_payment_grants_one_answer(server: Server) -> None:
    """One payment was good for 248 answers of a shop that looked at it anew each time."""
    headers = v2(pays(server.wallet))
    bodies = [json.dumps({"topic": f"rain {number}"}).encode() for number in range(248)]

    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda body: present(server, headers, body), bodies))

    assert Counter(map(answered, answers)) == {True: 1, False: 247}
    assert {each.status for each in answers} <= {200, 409, 503}
    assert bought_once(server)


def test_replay_after_the_window_and_after_everything_is_forgotten_buys_nothing(
    server: Server,
) -> None:
    """Shops that remember a payment for an hour sell again in the next. A month later ours still
    knows what it bought, though the answer itself is not kept."""
    headers, month = v2(pays(server.wallet)), 30 * 24 * 3600
    assert answered(present(server, headers))
    (row,) = server.rows()
    for column in ("created_at", "verified_at", "opened_at", "settled_at", "ended_at"):
        aged = f"UPDATE x402_executions SET {column} = {column} - %s WHERE id = %s"
        server.beneath.sql(aged, month, row["id"])
    server.beneath.sql("UPDATE x402_executions SET valid_before = valid_before - %s", month)

    def again(body: bytes) -> tuple[int, str]:
        return refused(present(server, headers, body))

    assert eventually(lambda: present(server, headers).status == 410)
    assert again(BODY) == (410, "ANSWER_EXPIRED")
    assert again(b'{"topic":"snow"}') == (409, "CONFLICT")
    assert bought_once(server)


@pytest.mark.parametrize("window", [(-600, -1), (-600, 30), (60, 300)], ids=str)
def test_replay_outside_the_signed_window_buys_nothing(
    server: Server, window: tuple[int, int]
) -> None:
    """An authorization that was kept for later: it is over, nearly over, or not good yet."""
    begins, ends = (str(int(time.time()) + seconds) for seconds in window)
    document = pays(server.wallet, validAfter=begins, validBefore=ends)

    assert refused(present(server, v2(document))) == (402, "PAYMENT_REQUIRED")
    assert nothing_happened(server)


def test_replay_by_somebody_who_has_only_seen_the_nonce_learns_nothing(
    server: Server, tmp_path: Path
) -> None:
    """A nonce and a payer are public once they are on a chain. The signature of another key over
    them is not the payer's."""
    document = pays(server.wallet)
    assert answered(present(server, v2(document)))
    thief = Wallet.open(tmp_path / "thief.key")
    stolen = pays(thief, **document["payload"]["authorization"])

    for headers in (v2(stolen), v1(stolen)):
        assert refused(present(server, headers)) == (402, "PAYMENT_REQUIRED")
    assert bought_once(server)


# Header ambiguity


AMBIGUOUS: Mapping[str, tuple[Callable[[Document, Document], Headers], int, int]] = {
    # what is sent of two good payments, and what gunicorn and nginx before it make of it
    "one payment in both versions": (lambda a, b: v2(a) + v1(a), 400, 400),
    "a payment in each version": (lambda a, b: v2(a) + v1(b), 400, 400),
    "a payment in each version, turned": (lambda a, b: v1(a) + v2(b), 400, 400),
    "a payment twice": (lambda a, b: v2(a) + v2(a), 400, 400),
    "a payment twice in version 1": (lambda a, b: v1(a) + v1(a), 400, 400),
    "two payments": (lambda a, b: v2(a) + v2(b), 400, 400),
    "two payments in version 1": (lambda a, b: v1(a) + v1(b), 400, 400),
    "two spellings": (lambda a, b: v2(a) + [("payment-signature", encoded(b))], 400, 400),
    "an empty one first": (lambda a, b: [(V2, "")] + v2(a), 400, 400),
    "an empty one last": (lambda a, b: v2(a) + [(V2, "")], 400, 400),
    "an empty one of the other version": (lambda a, b: v2(a) + [(V1, "")], 400, 400),
    "a comma between two": (lambda a, b: joined(a, b, ","), 400, 400),
    "a comma and a space": (lambda a, b: joined(a, b, ", "), 400, 400),
    "a comma between the same": (lambda a, b: joined(a, a, ", "), 400, 400),
    "a semicolon": (lambda a, b: joined(a, b, ";"), 400, 400),
    "a space": (lambda a, b: joined(a, b, " "), 400, 400),
    "nothing between two": (lambda a, b: joined(a, b, ""), 400, 400),
    "folded": (lambda a, b: joined(a, b, "\r\n "), 400, 400),
    "folded in the middle": (
        lambda a, b: [(V2, encoded(a)[:80] + "\r\n\t" + encoded(a)[80:])],
        400,
        400,
    ),
    "underscores": (lambda a, b: [("PAYMENT_SIGNATURE", encoded(a))], 400, 402),
    "underscores in version 1": (lambda a, b: [("X_PAYMENT", encoded(as_v1(a)))], 400, 402),
    "underscores besides": (lambda a, b: v2(a) + [("PAYMENT_SIGNATURE", encoded(b))], 400, 200),
    "a blank before the colon": (lambda a, b: [(V2 + " ", encoded(a))], 400, 400),
    "version 1 in version 2's": (lambda a, b: [(V2, encoded(as_v1(a)))], 400, 400),
    "version 2 in version 1's": (lambda a, b: [(V1, encoded(a))], 400, 400),
    "version 2 that says it is 1": (lambda a, b: v2(changed(a, "", x402Version=1)), 400, 400),
    "version 1 that says it is 2": (
        lambda a, b: [(V1, encoded(as_v1(a) | {"x402Version": 2}))],
        400,
        400,
    ),
    "a name twice in the JSON": (twice_in_one, 400, 400),
    "JSON after the JSON": (
        lambda a, b: [(V2, encoded_text(json.dumps(a) + json.dumps(b)))],
        400,
        400,
    ),
    "quoted": (lambda a, b: [(V2, f'"{encoded(a)}"')], 400, 400),
    "as a cookie": (lambda a, b: [("Cookie", f"{V2}={encoded(a)}")], 402, 402),
    "as a credential": (lambda a, b: [("X402-Authorization", encoded(a))], 402, 402),
    "blanks around": (lambda a, b: [(V2, f"\t {encoded(a)} \t")], 200, 200),
    "small letters": (lambda a, b: [(V2.lower(), encoded(a))], 200, 200),
}


@pytest.mark.parametrize("front", ["gunicorn", "nginx"])
@pytest.mark.parametrize("what", AMBIGUOUS)
def test_header_ambiguity_has_one_meaning_or_none(
    server: Server, cache: Cache, what: str, front: str
) -> None:
    """Where whoever stands in front reads one payment and we another, an answer is given for a
    payment that was checked by nobody. What can be read in two ways is refused; what cannot is the
    first payment, taken once."""
    make, direct, through = AMBIGUOUS[what]
    status, port = (through, cache.heeds) if front == "nginx" else (direct, server.port)
    first, second = pays(server.wallet), pays(server.wallet)

    answer = present(server, make(first, second), port=port)

    assert answer.status == status, answer.body
    if answered(answer):
        assert [each.nonce for each in sold(server)] == [nonce_of(first)]
        assert bought_once(server)
    else:
        assert nothing_happened(server)


@pytest.mark.parametrize("front", ["gunicorn", "nginx"])
def test_header_ambiguity_of_what_follows_the_body_is_not_read(
    server: Server, cache: Cache, front: str
) -> None:
    """A payment among the trailers of a chunked body comes after every check of the headers.

    Requests that hide another one are those of tests/hostile/attempts.py.
    """
    port = cache.heeds if front == "nginx" else server.port
    (name, payment), *_ = v2(pays(server.wallet))
    with Connection(port) as connection:
        headers = {"Transfer-Encoding": "chunked", "Trailer": name}
        connection.send("POST", HAIKU, headers | {"Content-Type": "application/json"})
        body = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY) + f"{name}: {payment}\r\n\r\n".encode()
        connection.socket.sendall(body)
        answer = connection.answer()

    assert not answered(answer)
    assert nothing_happened(server)


# Cached paid answers


STREAMED = "?topic=rain"
ASKED: Mapping[str, tuple[str, str, Headers]] = {
    "GET": ("GET", HAIKU + STREAMED, []),
    "GET in one piece": ("GET", f"{HAIKU}{STREAMED}&stream=false", []),
    "GET as JSON": ("GET", HAIKU + STREAMED, [("Accept", "application/json")]),
    "GET with ids": ("GET", f"{HAIKU}{STREAMED}&sse=ids", []),
    "POST": ("POST", HAIKU, []),
    "POST in one piece": ("POST", f"{HAIKU}?stream=false", []),
    "POST as JSON": ("POST", HAIKU, [("Accept", "application/json")]),
}


def through(server: Server, cache: Cache, how: str, headers: Headers, port: int = 0) -> Answer:
    method, path, wishes = ASKED[how]
    body = BODY if method == "POST" else None
    return present(
        server, headers + wishes, body, path=path, method=method, port=port or cache.heeds
    )


@pytest.mark.parametrize("wrapping", [v1, v2])
@pytest.mark.parametrize("how", ASKED)
def test_cached_paid_answers_are_given_to_nobody_else(
    server: Server, cache: Cache, how: str, wrapping: Callable[[Document], Headers], tmp_path: Path
) -> None:
    """One key for everybody who asks for this address: the next caller would be given what the
    first has paid for, or the payer the 402 of the one before. Each is told their own."""
    payer, other = server.wallet, Wallet.open(tmp_path / "other.key")
    paid, paid_too = wrapping(pays(payer)), wrapping(pays(other))
    ask = partial(through, server, cache, how)

    before, bought, after = ask([]), ask(paid), ask([])
    bought_too, again, at_last = ask(paid_too), ask(paid), ask([])

    told = [before, bought, after, bought_too, again, at_last]
    assert [each.status for each in told] == [402, 200, 402, 200, 200, 402]
    assert [answered(each) for each in told] == [False, True, False, True, True, False]
    assert {each.headers["x-cache"] for each in told} == {"MISS"}
    ids = [each.headers["x-execution-id"] for each in (bought, bought_too, again)]
    assert ids[0] != ids[1] and ids[0] == ids[2]
    for theft in (after, at_last):
        assert not theft.headers.keys() & {"x-resume-token", "x-execution-id", "payment-response"}
    assert len(sold(server)) == len(server.claude.calls) == 2


@pytest.mark.parametrize("how", ["GET", "GET in one piece", "POST"])
def test_cached_paid_answers_would_be_given_away_by_a_cache_that_is_deaf(
    server: Server, cache: Cache, how: str
) -> None:
    """Why the test above is one: the very same cache, told not to heed what a shop says about
    keeping an answer, hands it to whoever comes next. No shop can help that."""
    ask = partial(through, server, cache, how, port=cache.deaf)

    bought, stolen = ask(v2(pays(server.wallet))), ask([])

    assert answered(bought) and answered(stolen)
    assert stolen.headers["x-cache"] == "HIT"


def test_cached_paid_answers_are_not_shared_by_who_asks_meanwhile(
    server: Server, cache: Cache
) -> None:
    """A cache makes one request of several for the same address, and gives its answer to all."""
    server.claude.script({"text": TEXT, "afterDeltas": 1, "stallSeconds": 0.3})
    with (
        Connection(cache.heeds) as payer,
        ThreadPoolExecutor(3) as freeriders,
    ):
        payer.send("POST", HAIKU, v2(pays(server.wallet)), BODY)
        server.call()
        waiting = [freeriders.submit(present, server, [], port=cache.heeds) for _ in range(3)]
        bought = payer.answer()
        stolen = [each.result(20) for each in waiting]

    assert answered(bought)
    assert {refused(each) for each in stolen} == {(402, "PAYMENT_REQUIRED")}
    assert bought_once(server)


def test_cached_paid_answers_are_given_again_to_their_payer_alone(
    server: Server, cache: Cache
) -> None:
    """The other doors to a paid answer are opened by a token; the address alone opens none."""
    bought = present(server, v2(pays(server.wallet)), port=cache.heeds)
    token = [("X-Resume-Token", bought.headers["x-resume-token"])]
    execution = f"/executions/{bought.headers['x-execution-id']}"

    mark = [("Last-Event-ID", bought.headers["x-execution-id"] + ".0")]
    doors: list[tuple[str, Headers]] = [
        (execution, []),
        (f"{execution}/events", []),
        (f"{execution}/events", mark),
        (HAIKU + STREAMED, mark),
    ]

    for path, headers in doors:
        own, theirs = (
            present(server, headers + shown, None, path=path, method="GET", port=cache.heeds)
            for shown in (token, [])
        )

        assert own.status == 200
        assert theirs.status in (204, 401)
        assert not any(word in theirs.body for word in WORDS)
        assert {own.headers["x-cache"], theirs.headers["x-cache"]} == {"MISS"}


REFUSALS: Mapping[str, tuple[str, str, Callable[[Server], Headers], int]] = {
    "no payment": ("GET", HAIKU + STREAMED, lambda shop: [], 402),
    "another's payment": ("GET", BOBS + STREAMED, lambda shop: v2(pays(shop.wallet)), 402),
    "no payment at all": ("GET", HAIKU + STREAMED, lambda shop: [(V2, "x")], 400),
    "a bad request": ("GET", HAIKU + "?theme=rain", lambda shop: [], 400),
    "nothing there": ("GET", "/@ada/nothing?topic=rain", lambda shop: [], 404),
    "nobody signed in": ("GET", "/api/v1/executions", lambda shop: [], 401),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_cached_refusals_deny_nothing_to_who_pays(server: Server, cache: Cache, what: str) -> None:
    """A refusal that is kept would be told to the next who comes and pays."""
    method, path, headers, status = REFUSALS[what]

    twice = [
        present(server, headers(server), None, path=path, method=method, port=cache.heeds)
        for _ in range(2)
    ]

    assert [(each.status, each.headers["x-cache"]) for each in twice] == [(status, "MISS")] * 2
    assert twice[0].headers["x-request-id"] != twice[1].headers["x-request-id"]
    assert nothing_happened(server)


# Server selection


@pytest.mark.parametrize("front", ["gunicorn", "nginx"])
@pytest.mark.parametrize(
    "headers",
    [
        [("X-Forwarded-Host", "evil.example")],
        [("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Port", "66")],
        [("Forwarded", "host=evil.example")],
        [("X-Host", "evil.example"), ("X-Forwarded-Server", "evil.example")],
        [("X-Original-Host", "evil.example"), ("X-Forwarded-Prefix", "/evil")],
    ],
    ids=lambda headers: headers[0][0],
)
def test_server_selection_cannot_be_steered_by_a_poisoned_quote(
    server: Server, cache: Cache, headers: Headers, front: str
) -> None:
    """A quote that names the attacker's address, or pays them, and that a cache then tells
    everybody. Ours is made of settings and rows alone."""
    port = cache.heeds if front == "nginx" else server.port

    poisoned, plain = present(server, headers, port=port), present(server, [], port=port)

    assert plain.headers["payment-required"] == poisoned.headers["payment-required"]
    quote = decoded(poisoned.headers["payment-required"])
    assert quote["resource"]["url"] == server.url + HAIKU
    assert {each["payTo"] for each in quote["accepts"]} == {PAY_TO}
    assert b"evil" not in poisoned.body
