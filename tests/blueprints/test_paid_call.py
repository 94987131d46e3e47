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
