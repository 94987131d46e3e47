"""The paid door, from the 402 to the last event."""

from tests.conftest import PAY_TO, PRICE, Shop, events, text_of


def test_an_answer_is_bought_for_exactly_its_price(shop: Shop) -> None:
    shop.claude.script({"text": "Rain taps the window."})
    before = shop.ledger.balance(shop.wallet.address)

    reply = shop.buy()
    said = events(reply)

    assert reply.status_code == 200
    assert text_of(said) == "Rain taps the window."
    assert said[-1]["type"] == "done"
    assert shop.ledger.balance(shop.wallet.address) == before - PRICE
    (transfer,) = shop.ledger.transfers()
    assert (transfer.payee, transfer.value) == (PAY_TO.lower(), PRICE)
    (row,) = shop.rows()
    assert (row["state"], row["attempt"], row["sealed_payment"]) == ("completed", 1, None)


def test_every_step_of_a_paid_call_has_its_time(shop: Shop) -> None:
    shop.buy().get_data()

    (row,) = shop.rows()
    steps = ["created_at", "verified_at", "opened_at", "settled_at", "ended_at"]
    assert sorted(steps, key=row.__getitem__) == steps


def test_a_doubled_slash_is_no_way_in_and_sends_nobody_elsewhere(shop: Shop) -> None:
    reply = shop.client.post("/@ada//haiku", json={}, headers={"Host": "elsewhere.example"})

    assert (reply.status_code, reply.json["code"]) == (404, "NOT_FOUND")
    assert "Location" not in reply.headers


def test_looking_does_not_use_up_the_free_calls(shop: Shop) -> None:
    shop.publish(price=0)

    looked = {shop.client.head(f"{shop.url}?topic=rain").status_code for _ in range(40)}

    assert looked == {200}
    assert shop.client.post(shop.url, json={"topic": "rain"}).status_code == 200
