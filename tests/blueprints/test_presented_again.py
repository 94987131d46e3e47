"""Presenting a payment again: the table of spec/money.md, row by row."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any

import pytest
from eth_utils import to_checksum_address
from werkzeug.test import TestResponse

from tests.blueprints.conftest import Chains, WatchedFacilitator, forge, headers_of, quoted, refused
from tests.conftest import PRICE, RAIN, Shop, decoded, events, text_of
from x402jobs.domain.errors import (
    AnswerExpired,
    Conflict,
    InProgress,
    SettlementUnknown,
    TemplateUnavailable,
)

WORDS = {"text": "Rain taps the window."}
BROKEN = {"text": "Rain taps the window.", "errorEvent": "overloaded_error", "afterDeltas": 1}
SNOW = {"topic": "snow"}
DAY = 24 * 3600

Headers = dict[str, str]


def present(shop: Shop, payment: Headers, values: object = RAIN, url: str = "") -> TestResponse:
    """As another caller would, to the last byte, with a client of its own: threads may do it."""
    client = shop.client.application.test_client()
    return client.post(url or shop.url, json=values, headers=payment, buffered=True)


def the_row(shop: Shop) -> dict[str, Any]:
    (row,) = shop.rows()
    return row


def bought(shop: Shop, *scripts: dict[str, Any]) -> tuple[Headers, list[dict[str, Any]]]:
    """A payment that has run, with whatever Claude was told, and what was said."""
    shop.claude.script(*(scripts or (WORDS,)))
    payment = shop.payment()
    return payment, events(present(shop, payment))


def wait_for_state(shop: Shop, state: str) -> None:
    until = time.monotonic() + 3
    while [row["state"] for row in shop.rows()] != [state]:
        assert time.monotonic() < until, shop.rows()
        time.sleep(0.005)


# completed


def test_an_answer_that_was_bought_is_replayed(shop: Shop, watched: WatchedFacilitator) -> None:
    payment, first = bought(shop)
    watched.asked.clear()
    row = the_row(shop)

    reply = present(shop, payment)
    said = events(reply)

    assert reply.status_code == 200
    assert (text_of(said), said[-1]) == (text_of(first), first[-1])
    paid = decoded(reply.headers["PAYMENT-RESPONSE"])
    assert (paid["success"], paid["transaction"]) == (True, row["transaction"])
    assert reply.headers["X-Execution-Id"] == row["id"]
    assert (watched.asked, len(shop.claude.calls)) == ([], 1)
    assert len(shop.ledger.transfers()) == 1
    assert the_row(shop) == row


SINCE = {
    "deleted": "UPDATE x402_resources SET is_active = 0",
    "repriced": "UPDATE x402_resources SET price_usdc = 990000",
    "made free": "UPDATE x402_resources SET price_usdc = 0",
    "renamed": "UPDATE x402_resources SET slug = 'senryu'",
    "given other parameters": "UPDATE x402_resources SET pt_parameters = '[]'",
    "left without a key": "DELETE FROM x402_user_claude_configs",
    "left with its key disabled": "UPDATE x402_user_claude_configs SET is_enabled = 0",
    "left without a payout address": "DELETE FROM x402_payout_addresses",
    "moved to a retired model": "UPDATE x402_resources SET pt_model = 'claude-2.1'",
}


@pytest.mark.parametrize("what", SINCE)
def test_what_became_of_the_template_does_not_matter_to_who_has_paid(
    shop: Shop, watched: WatchedFacilitator, what: str
) -> None:
    payment, first = bought(shop)
    shop.query(SINCE[what])
    watched.asked.clear()

    said = events(present(shop, payment))

    assert (text_of(said), said[-1]) == (text_of(first), first[-1])
    assert (watched.asked, len(shop.claude.calls)) == ([], 1)


@pytest.mark.parametrize("values", [{"topic": "rain", "user_message": None}, {"topic": "rain"}])
def test_values_that_mean_the_same_get_the_same_answer(shop: Shop, values: object) -> None:
    payment, first = bought(shop)

    assert events(present(shop, payment, values))[-1] == first[-1]


def test_the_letter_case_of_the_address_makes_no_difference(shop: Shop) -> None:
    payment, first = bought(shop)

    assert events(present(shop, payment, url="/@ADA/haiku"))[-1] == first[-1]


@pytest.mark.parametrize(
    "values", [SNOW, {"topic": "Rain"}, {"topic": "rain "}, {}, {"topic": "rain", "more": "x"}]
)
def test_one_payment_does_not_buy_two_different_answers(
    shop: Shop, watched: WatchedFacilitator, values: object
) -> None:
    payment, _ = bought(shop)
    watched.asked.clear()

    reply = present(shop, payment, values)

    assert refused(reply, 409, "CONFLICT")["error"] == Conflict.sentence
    assert (watched.asked, len(shop.claude.calls)) == ([], 1)
    assert the_row(shop)["state"] == "completed"


def test_one_payment_does_not_buy_at_two_templates(shop: Shop) -> None:
    payment, _ = bought(shop)
    shop.query("UPDATE x402_resources SET slug = 'senryu'")
    shop.publish()

    reply = present(shop, payment, url="/@ada/senryu")

    refused(reply, 409, "CONFLICT")
    assert len(shop.claude.calls) == 1


def ended(shop: Shop, seconds_ago: float) -> None:
    shop.query("UPDATE x402_executions SET ended_at = ?", time.time() - seconds_ago)


def test_an_answer_is_kept_for_a_day(shop: Shop) -> None:
    payment, _ = bought(shop)
    ended(shop, DAY - 5)

    assert text_of(events(present(shop, payment))) == WORDS["text"]


@pytest.mark.parametrize("purged", [False, True])
def test_after_a_day_there_is_the_receipt_alone(shop: Shop, purged: bool) -> None:
    payment, first = bought(shop)
    ended(shop, DAY + 1)
    if purged:
        shop.query("DELETE FROM x402_answers")

    reply = present(shop, payment)

    body = refused(reply, 410, "ANSWER_EXPIRED")
    assert body["receipt"] == first[-1]["receipt"]
    assert body["message"] == AnswerExpired.sentence
    assert decoded(reply.headers["PAYMENT-RESPONSE"])["success"] is True
    assert len(shop.claude.calls) == 1


def test_an_answer_moved_from_another_row_is_not_told(shop: Shop) -> None:
    payment, _ = bought(shop)
    bought(shop, {"text": "Somebody else's answer."})
    mine, theirs = shop.rows()
    shop.query(
        "UPDATE x402_answers SET sealed_answer = (SELECT sealed_answer FROM x402_answers"
        " WHERE execution_id = ?) WHERE execution_id = ?",
        theirs["id"],
        mine["id"],
    )

    reply = present(shop, payment)

    refused(reply, 410, "ANSWER_EXPIRED")
    assert b"Somebody" not in reply.get_data()


# claimed, settled


def put_back(shop: Shop, state: str, **columns: object) -> None:
    """Make the row one that another worker is busy with, or has died over."""
    columns = {"state": state, "worker": "another", "ended_at": None} | columns
    names = ", ".join(f'"{name}" = ?' for name in columns)
    shop.query(f"UPDATE x402_executions SET {names}", *columns.values())
    shop.query("DELETE FROM x402_answers")


@pytest.mark.parametrize("values", [RAIN, SNOW], ids=["the same values", "other values"])
@pytest.mark.parametrize(
    "state, columns",
    [("claimed", {"transaction": None}), ("settled", {})],
    ids=["claimed", "settled"],
)
def test_a_payment_that_is_executed_elsewhere_has_to_wait(
    shop: Shop, watched: WatchedFacilitator, state: str, columns: dict[str, Any], values: object
) -> None:
    payment, _ = bought(shop)
    put_back(shop, state, **columns)
    watched.asked.clear()

    reply = present(shop, payment, values)

    if values == RAIN:
        body = refused(reply, 409, "IN_PROGRESS")
        assert InProgress.sentence in (body["error"], body.get("message"))
        assert int(reply.headers["Retry-After"]) >= 1
    else:
        refused(reply, 409, "CONFLICT")
    assert (watched.asked, len(shop.claude.calls)) == ([], 1)
    assert the_row(shop)["state"] == state


def test_a_payment_that_is_executed_here_is_followed(shop: Shop) -> None:
    shop.claude.script({"text": "Rain taps the window.", "deltaMs": 150})
    payment, first = shop.payment(), []
    caller = Thread(target=lambda: first.extend(events(present(shop, payment))))
    caller.start()
    wait_for_state(shop, "settled")

    other = refused(present(shop, payment, SNOW), 409, "CONFLICT")
    second = events(present(shop, payment))

    caller.join()
    assert other["error"] == Conflict.sentence
    assert text_of(first) == text_of(second) == "Rain taps the window."
    assert first[-1] == second[-1] and first[-1]["type"] == "done"
    assert (len(shop.claude.calls), len(shop.ledger.transfers())) == (1, 1)


def test_ten_at_once_are_one_sale(shop: Shop) -> None:
    shop.claude.script({"text": "Rain taps the window.", "deltaMs": 40})
    payment = shop.payment()
    with ThreadPoolExecutor(10) as callers:
        replies = list(callers.map(lambda _: present(shop, payment), range(10)))

    answered = [events(reply) for reply in replies if reply.status_code == 200]
    turned_away = [reply for reply in replies if reply.status_code != 200]
    assert answered
    assert {text_of(said) for said in answered} == {"Rain taps the window."}
    assert {said[-1]["type"] for said in answered} == {"done"}
    for reply in turned_away:
        assert reply.status_code in (409, 503)
        assert reply.json is not None
        assert reply.json["code"] in ("IN_PROGRESS", "SETTLEMENT_UNKNOWN")
        assert "Retry-After" in reply.headers
    assert (len(shop.claude.calls), len(shop.ledger.transfers())) == (1, 1)
    assert the_row(shop)["state"] == "completed"


def test_a_payers_payments_at_once_are_as_many_sales(shop: Shop) -> None:
    """Four are (docs/limits.md)."""
    payments = [shop.payment() for _ in range(4)]
    with ThreadPoolExecutor(4) as callers:
        replies = list(callers.map(lambda payment: present(shop, payment), payments))

    assert [events(reply)[-1]["type"] for reply in replies] == ["done"] * 4
    assert (len(shop.claude.calls), len(shop.ledger.transfers())) == (4, 4)
    assert {row["state"] for row in shop.rows()} == {"completed"}


# settling


def away(watched: WatchedFacilitator) -> None:
    """It is asked, and its connection breaks before it has done anything."""

    def leave() -> None:
        watched.is_away = True

    watched.before_settling = leave


def forgetful(watched: WatchedFacilitator) -> None:
    """The money moves, and the answer is lost."""
    watched.loses_answers = True


@pytest.mark.parametrize(
    "trouble, transfers", [(away, 0), (forgetful, 1)], ids=["before it moved", "after it moved"]
)
@pytest.mark.parametrize("values", [RAIN, SNOW], ids=["the same values", "other values"])
def test_nobody_is_asked_to_pay_again_while_the_money_may_have_moved(
    shop: Shop,
    watched: WatchedFacilitator,
    chain: Chains,
    trouble: Callable[[WatchedFacilitator], None],
    transfers: int,
    values: object,
) -> None:
    trouble(watched)
    chain.is_blind = transfers > 0
    payment = shop.payment()

    first = present(shop, payment)
    again = [present(shop, payment, values) for _ in range(3)]

    for reply in (first, *again):
        body = refused(reply, 503, "SETTLEMENT_UNKNOWN")
        assert (body["error"], body["executionId"]) == (
            SettlementUnknown.sentence,
            the_row(shop)["id"],
        )
        assert int(reply.headers["Retry-After"]) >= 1
        assert not {"PAYMENT-REQUIRED", "PAYMENT-RESPONSE"} & {
            name.upper() for name, _ in reply.headers
        }
    row = the_row(shop)
    assert (row["state"], row["transaction"], row["attempt"]) == ("settling", None, 1)
    assert row["sealed_payment"] is not None
    assert watched.asked.count("settle") == 1
    assert (len(shop.claude.calls), len(shop.ledger.transfers())) == (1, transfers)


def test_a_payment_whose_outcome_is_unknown_does_not_sell_at_another_price_either(
    shop: Shop, watched: WatchedFacilitator, chain: Chains
) -> None:
    forgetful(watched)
    chain.is_blind = True
    payment = shop.payment()
    present(shop, payment)
    shop.query(SINCE["deleted"])

    refused(present(shop, payment), 503, "SETTLEMENT_UNKNOWN")


def test_what_a_facilitator_forgot_to_say_the_chain_tells(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    forgetful(watched)
    shop.claude.script(WORDS)

    said = events(present(shop, shop.payment()))

    assert (text_of(said), said[-1]["type"]) == (WORDS["text"], "done")
    (transfer,) = shop.ledger.transfers()
    assert said[-1]["receipt"]["transaction"] == transfer.transaction
    assert (the_row(shop)["state"], the_row(shop)["log_index"]) == ("completed", 0)


def test_claude_is_let_go_when_the_outcome_is_unknown(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    away(watched)
    shop.claude.script({"text": "a " * 50, "deltaMs": 100})

    present(shop, shop.payment())

    until = time.monotonic() + 2
    while not shop.claude.calls[0]["hungUp"]:
        assert time.monotonic() < until
        time.sleep(0.01)


# refund_due, refunded


def test_a_debt_is_paid_with_a_free_run(shop: Shop, watched: WatchedFacilitator) -> None:
    payment, broken = bought(shop, BROKEN)
    watched.asked.clear()
    shop.claude.script({"text": "Snowmelt, this time whole."})

    reply = present(shop, payment)
    said = events(reply)

    assert (text_of(said), said[-1]["type"]) == ("Snowmelt, this time whole.", "done")
    assert said[-1]["receipt"] == broken[-1]["receipt"]
    assert decoded(reply.headers["PAYMENT-RESPONSE"])["success"] is True
    assert (watched.asked, len(shop.claude.calls)) == ([], 2)
    assert len(shop.ledger.transfers()) == 1
    row = the_row(shop)
    assert (row["state"], row["attempt"], row["reruns"]) == ("completed", 2, 1)
    assert events(present(shop, payment))[-1] == said[-1]


def test_a_debt_may_be_run_three_times_and_then_stands(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    payment, _ = bought(shop, BROKEN)
    watched.asked.clear()

    for left in (2, 1, 0):
        shop.claude.script(BROKEN)
        said = events(present(shop, payment))
        assert said[-1]["credit"] == {"amountUsdc": "0.01", "rerunsLeft": left}
        assert (the_row(shop)["state"], the_row(shop)["reruns"]) == ("refund_due", 3 - left)
    reply = present(shop, payment)

    body = refused(reply, 409, "CONFLICT")
    assert body["credit"] == {"amountUsdc": "0.01", "rerunsLeft": 0}
    assert body["receipt"] == said[-1]["receipt"]
    assert (watched.asked, len(shop.claude.calls)) == ([], 4)
    assert len(shop.ledger.transfers()) == 1


def test_a_free_run_that_cannot_start_is_still_owed(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    payment, broken = bought(shop, BROKEN)
    watched.asked.clear()
    shop.claude.script({"status": 401})

    reply = present(shop, payment)

    body = refused(reply, 502, "INVALID_API_KEY")
    assert body["error"] == "Execution failed"
    assert body["receipt"] == broken[-1]["receipt"]
    assert body["credit"] == {"amountUsdc": "0.01", "rerunsLeft": 3}
    assert (the_row(shop)["state"], the_row(shop)["code"]) == ("refund_due", "INVALID_API_KEY")
    assert watched.asked == []


def test_a_debt_does_not_buy_something_else(shop: Shop) -> None:
    payment, _ = bought(shop, BROKEN)

    reply = present(shop, payment, SNOW)

    refused(reply, 409, "CONFLICT")
    assert (the_row(shop)["state"], the_row(shop)["reruns"]) == ("refund_due", 0)
    assert len(shop.claude.calls) == 1


@pytest.mark.parametrize("what", ["repriced", "expired"])
def test_a_debt_outlives_its_price_and_its_window(shop: Shop, what: str) -> None:
    now = int(time.time())
    payment = headers_of(forge(shop.wallet, validBefore=str(now + 62)))
    shop.claude.script(BROKEN)
    events(present(shop, payment))
    if what == "repriced":
        shop.query(SINCE["repriced"])
    else:
        time.sleep(max(0.0, now + 2.5 - time.time()))  # less than the 60 s a new payment needs
    shop.claude.script(WORDS)

    said = events(present(shop, payment))

    assert (said[-1]["type"], said[-1]["receipt"]["paidUsdc"]) == ("done", "0.01")
    assert len(shop.ledger.transfers()) == 1


def test_a_debt_is_not_run_by_two_at_once(shop: Shop) -> None:
    payment, _ = bought(shop, BROKEN)
    shop.claude.script(*[{"text": "Rain taps the window.", "deltaMs": 40}] * 5)
    with ThreadPoolExecutor(5) as callers:
        replies = list(callers.map(lambda _: present(shop, payment), range(5)))

    assert {reply.status_code for reply in replies} <= {200, 409}
    assert {text_of(events(r)) for r in replies if r.status_code == 200} == {WORDS["text"]}
    assert (len(shop.claude.calls), len(shop.ledger.transfers())) == (2, 1)
    assert (the_row(shop)["state"], the_row(shop)["reruns"]) == ("completed", 1)


def test_a_debt_paid_out_is_closed(shop: Shop) -> None:
    payment, _ = bought(shop, BROKEN)
    shop.query("UPDATE x402_executions SET state = 'refunded'")

    body = refused(present(shop, payment), 409, "CONFLICT")

    assert "refunded" in body["message"] and "credit" not in body
    assert len(shop.claude.calls) == 1


# released


@pytest.mark.parametrize("values", [RAIN, SNOW], ids=["the same values", "other values"])
def test_a_released_payment_tries_again_under_its_row(shop: Shop, values: object) -> None:
    shop.claude.script({"status": 401})
    payment = shop.payment()
    refused(present(shop, payment), 502, "INVALID_API_KEY")
    before = the_row(shop)
    shop.claude.script({"status": 404})
    refused(present(shop, payment, values), 503, TemplateUnavailable.code)
    shop.claude.script(WORDS)

    said = events(present(shop, payment, values))

    after = the_row(shop)
    assert said[-1]["type"] == "done"
    assert (before["attempt"], after["attempt"]) == (1, 3)
    assert (after["id"], after["state"]) == (before["id"], "completed")
    assert (after["digest"] == before["digest"]) is (values == RAIN)
    assert len(shop.ledger.transfers()) == 1


def test_a_released_payment_is_claimed_by_one_of_ten(shop: Shop) -> None:
    shop.claude.script({"status": 401})
    payment = shop.payment()
    present(shop, payment)
    shop.claude.forget()
    with ThreadPoolExecutor(10) as callers:
        replies = list(callers.map(lambda _: present(shop, payment), range(10)))

    assert 200 in {reply.status_code for reply in replies}
    assert {reply.status_code for reply in replies} <= {200, 409, 503}
    assert (len(shop.claude.calls), len(shop.ledger.transfers())) == (1, 1)
    assert (the_row(shop)["state"], the_row(shop)["attempt"]) == ("completed", 2)


# One authorization in many spellings


def upper(text: str) -> str:
    return "0x" + text[2:].upper()


SPELLINGS: dict[str, Callable[[dict[str, Any]], None]] = {
    "payer in upper case": lambda p: respell(p, upper, "from"),
    "payer checksummed": lambda p: respell(p, to_checksum_address, "from"),
    "recipient in lower case": lambda p: respell(p, str.lower, "to"),
    "nonce in upper case": lambda p: respell(p, upper, "nonce"),
    "token in upper case": lambda p: p["accepted"].update(asset=upper(p["accepted"]["asset"])),
    "recipient accepted in lower case": lambda p: p["accepted"].update(
        payTo=p["accepted"]["payTo"].lower()
    ),
    "signature in upper case": lambda p: p["payload"].update(
        signature=upper(p["payload"]["signature"])
    ),
    "something added": lambda p: p.update(extensions={"colour": "blue"}, resource=None),
    "requirements made up": lambda p: p["accepted"].update(maxTimeoutSeconds=9, extra={}),
}


def respell(payment: dict[str, Any], how: Callable[[str], str], name: str) -> None:
    authorization = payment["payload"]["authorization"]
    authorization[name] = how(authorization[name])


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("first", [True, False], ids=["respelled first", "respelled again"])
def test_every_spelling_of_an_authorization_is_the_same_payment(
    shop: Shop, watched: WatchedFacilitator, spelling: str, first: bool
) -> None:
    payment = forge(shop.wallet)
    plain = headers_of(payment)
    SPELLINGS[spelling](payment)
    respelled = headers_of(payment)
    shop.claude.script(WORDS)
    once, again = (respelled, plain) if first else (plain, respelled)

    said = events(present(shop, once))
    replayed = events(present(shop, again))

    assert said[-1]["type"] == "done" and replayed[-1] == said[-1]
    assert watched.asked == ["verify", "settle"]
    assert (len(shop.claude.calls), len(shop.ledger.transfers())) == (1, 1)
    assert the_row(shop)["state"] == "completed"


# Whoever knows a nonce


@pytest.mark.parametrize("script", [WORDS, BROKEN], ids=["completed", "refund_due"])
@pytest.mark.parametrize("what", ["another signature", "another key", "nothing of the payer's"])
def test_a_forged_signature_with_a_known_nonce_gets_nothing(
    shop: Shop, watched: WatchedFacilitator, script: dict[str, Any], what: str
) -> None:
    known = forge(shop.wallet)
    shop.claude.script(script)
    events(present(shop, headers_of(known)))
    watched.asked.clear()
    before = the_row(shop)
    forged = forge(shop.wallet) if what == "another signature" else known
    if what == "another key":
        stranger = type(shop.wallet).open(shop.settings.data / "stranger.key")
        forged = forge(stranger, **known["payload"]["authorization"])
    elif what == "another signature":
        forged["payload"]["authorization"] = known["payload"]["authorization"]
    else:
        forged["payload"]["signature"] = "0x" + "11" * 64 + "1b"

    reply = present(shop, headers_of(forged))

    quoted(reply)
    assert b"Rain taps" not in reply.get_data()
    assert before["transaction"] not in str(reply.headers) + reply.get_data(as_text=True)
    assert (watched.asked, len(shop.claude.calls)) == ([], 1)
    assert the_row(shop) == before


@pytest.mark.parametrize("state", ["claimed", "settling"])
def test_a_forger_does_not_learn_what_became_of_a_payment(shop: Shop, state: str) -> None:
    known = forge(shop.wallet)
    shop.claude.script(WORDS)
    events(present(shop, headers_of(known)))
    put_back(shop, state, transaction=None)
    known["payload"]["signature"] = "0x" + "11" * 64 + "1b"

    quoted(present(shop, headers_of(known)))


# The fence


def test_whoever_has_lost_the_row_says_one_error_and_no_done(shop: Shop) -> None:
    shop.claude.script({"text": "Rain taps the window.", "deltaMs": 100})
    payment = shop.payment()
    said: list[dict[str, Any]] = []
    caller = Thread(target=lambda: said.extend(events(present(shop, payment))))
    caller.start()
    wait_for_state(shop, "settled")
    shop.query("UPDATE x402_executions SET attempt = attempt + 1, worker = 'another'")
    taken = the_row(shop)

    caller.join()

    assert [event["type"] for event in said[:-1]] == ["text"] * (len(said) - 1)
    assert (said[-1]["type"], said[-1]["code"]) == ("error", "IN_PROGRESS")
    assert "credit" not in said[-1]
    assert said[-1]["receipt"]["transaction"] == taken["transaction"]
    assert the_row(shop) == taken
    assert shop.query("SELECT * FROM x402_answers") == []


def test_whoever_has_lost_the_row_before_settling_takes_no_money(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    shop.claude.script({"text": "Rain.", "stallSeconds": 0.6, "afterDeltas": 0})
    payment = shop.payment()
    replies: list[TestResponse] = []
    caller = Thread(target=lambda: replies.append(present(shop, payment)))
    caller.start()
    wait_for_state(shop, "claimed")
    shop.query("UPDATE x402_executions SET attempt = attempt + 1, worker = 'another'")
    taken = the_row(shop)

    caller.join()

    refused(replies[0], 409, "IN_PROGRESS")
    assert (watched.asked, shop.ledger.transfers()) == (["verify"], [])
    assert the_row(shop) == taken


def test_two_different_payments_are_two_rows(shop: Shop) -> None:
    bought(shop)
    bought(shop)

    assert len(shop.rows()) == len(shop.claude.calls) == 2
    assert sum(transfer.value for transfer in shop.ledger.transfers()) == 2 * PRICE


def test_a_claude_that_stays_away_does_not_eat_the_free_runs(shop: Shop) -> None:
    payment, _ = bought(shop, BROKEN)

    for _ in range(4):
        shop.claude.script({"status": 401})
        refused(present(shop, payment), 502, "INVALID_API_KEY")
    shop.claude.script(WORDS)
    said = events(present(shop, payment))

    assert said[-1]["type"] == "done"
    assert (the_row(shop)["reruns"], the_row(shop)["attempt"]) == (1, 6)


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM x402_payout_addresses", "UPDATE x402_resources SET price_usdc = 0"],
    ids=["no payout address any more", "free of charge by now"],
)
def test_a_debt_is_paid_whatever_the_template_asks_for_now(shop: Shop, change: str) -> None:
    payment, broken = bought(shop, BROKEN)
    shop.query(change)
    shop.claude.script(WORDS)

    said = events(present(shop, payment))

    assert (said[-1]["type"], said[-1]["receipt"]) == ("done", broken[-1]["receipt"])
    assert the_row(shop)["state"] == "completed"


def test_parameters_that_cannot_be_read_shut_the_shop_but_not_what_was_bought(shop: Shop) -> None:
    payment, said = bought(shop)
    shop.query("UPDATE x402_resources SET pt_parameters = 'not JSON'")

    again = present(shop, payment)
    unpaid = shop.client.post(shop.url, json=RAIN)

    assert text_of(events(again)) == text_of(said)
    refused(unpaid, 503, "TEMPLATE_UNAVAILABLE")
