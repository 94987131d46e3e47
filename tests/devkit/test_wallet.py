"""A wallet that pays through the official client, and only as much as it was told."""

import base64
import json
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from x402 import NoMatchingRequirementsError
from x402.http.clients.requests import PaymentError

from x402jobs.adapters.facilitator import X402Facilitator
from x402jobs.devkit.development_ledger import GRANT, DevelopmentLedger
from x402jobs.devkit.wallet import Wallet, paying_session, sign
from x402jobs.domain.networks import DEVELOPMENT, Network
from x402jobs.domain.payment import Payment, PaymentRequirements
from x402jobs.domain.quote import Quote
from x402jobs.ports import Settled

CREATOR = "0x" + "c1" * 20
BASE = Network(
    id="eip155:8453",
    chain_id=8453,
    token="0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
    token_name="USD Coin",
    token_version="2",
)
STRANGE = Network(
    id="eip155:8453",
    chain_id=8453,
    token="0x" + "5a" * 20,
    token_name="Strange Coin",
    token_version="1",
)


def quote(amount: int = 10_000, network: Network = DEVELOPMENT) -> dict[str, Any]:
    asked = PaymentRequirements(network, amount, CREATOR)
    return Quote("http://shop.test/@ada/haiku", "A haiku", (asked,)).as_json("Payment required.")


def read(header: str) -> Payment:
    return Payment.parse(json.loads(base64.b64decode(header)))


@pytest.fixture
def wallet(tmp_path: Path) -> Wallet:
    return Wallet.open(tmp_path / "wallet")


# The file


def test_a_wallet_is_made_once_and_is_its_owners_alone(tmp_path):
    path = tmp_path / "new" / "wallet"
    wallet = Wallet.open(path)

    assert Wallet.open(path) == wallet
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() == wallet.key.reveal()
    assert len(wallet.address) == 42 and wallet.address == wallet.address.lower()


def test_ten_openings_at_once_make_one_wallet(tmp_path):
    with ThreadPoolExecutor(10) as pool:
        wallets = list(pool.map(Wallet.open, [tmp_path / "wallet"] * 10))

    assert len({wallet.address for wallet in wallets}) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["wallet"]


def test_a_known_key_has_its_known_address(tmp_path):
    (tmp_path / "wallet").write_text("0x" + "00" * 31 + "01")

    assert Wallet.open(tmp_path / "wallet").address == "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"


def test_a_wallet_does_not_show_its_key(wallet):
    assert wallet.key.reveal()[2:] not in repr(wallet) + str(wallet)


@pytest.mark.parametrize("text", ["", "hunter2", "0x1234", "0x" + "00" * 32, "0x" + "ff" * 32])
def test_a_file_that_holds_no_key_is_named_but_not_quoted(tmp_path, text):
    (tmp_path / "wallet").write_text(text)

    with pytest.raises(ValueError, match="wallet does not hold a private key") as told:
        Wallet.open(tmp_path / "wallet")
    assert not text or text not in str(told.value)
    assert told.value.__cause__ is None


# Signing


def test_a_signed_header_is_a_payment_of_this_quote(wallet):
    payment = read(sign(wallet, quote()))
    asked = PaymentRequirements(DEVELOPMENT, 10_000, CREATOR)

    assert payment.authorization.payer == wallet.address
    assert payment.misfit(asked, time.time()) is None
    assert X402Facilitator([]).signer(payment, asked.network) == wallet.address


def test_every_signing_is_a_new_payment(wallet):
    assert read(sign(wallet, quote())).claim_key != read(sign(wallet, quote())).claim_key


@pytest.mark.parametrize(
    ("amount", "network", "max_usd", "pays"),
    [
        (1_000_000, DEVELOPMENT, "1", True),
        (1_000_001, DEVELOPMENT, "1", False),
        (1_000_001, DEVELOPMENT, "2.5", True),
        (10_000, DEVELOPMENT, "0.01", True),
        (10_001, DEVELOPMENT, "0.01", False),
        (1, DEVELOPMENT, "0", False),
        (1, DEVELOPMENT, "0.000001", True),
        (2, DEVELOPMENT, "0.000001", False),
        (1_000_000, BASE, "1", True),
        (1_000_001, BASE, "1", False),
        (2_500_000, BASE, "2.5", True),
        (2, BASE, "0.000001", False),
        (10, STRANGE, "1000", False),
    ],
)
def test_a_wallet_pays_dollars_it_knows_up_to_its_cap(wallet, amount, network, max_usd, pays):
    document = quote(amount, network)
    if pays:
        assert read(sign(wallet, document, Decimal(max_usd))).authorization.value == amount
    else:
        with pytest.raises(NoMatchingRequirementsError):
            sign(wallet, document, Decimal(max_usd))


def test_without_our_token_in_the_spend_controls_play_money_is_refused(wallet):
    with pytest.raises(NoMatchingRequirementsError):
        sign(wallet, quote(), networks=[])


# Paying


class Shop(ThreadingHTTPServer):
    """Asks for a cent, settles on the ledger, then says three words with pauses between them."""

    daemon_threads = False

    def __init__(self, ledger: DevelopmentLedger, price: int) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.facilitator = X402Facilitator(ledger.facilitator())
        self.price = price
        self.go_on = threading.Event()
        self.headers: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/@ada/haiku"


class _Door(BaseHTTPRequestHandler):
    server: Shop

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        header = self.headers.get("PAYMENT-SIGNATURE")
        self.server.headers.append(header)
        asked = PaymentRequirements(DEVELOPMENT, self.server.price, CREATOR)
        if header is None or not isinstance(
            self.server.facilitator.settle(read(header), asked), Settled
        ):
            document = json.dumps(quote(self.server.price)).encode()
            self.send_response(402)
            self.send_header("PAYMENT-REQUIRED", base64.b64encode(document).decode())
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"data: one\n\n")
        self.server.go_on.wait(10)
        self.wfile.write(b"data: two\n\n")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[DevelopmentLedger]:
    ledger = DevelopmentLedger(tmp_path / "ledger.sqlite3")
    yield ledger
    ledger.close()


@pytest.fixture
def shop(ledger: DevelopmentLedger) -> Iterator[Shop]:
    shop = Shop(ledger, price=10_000)
    serving = threading.Thread(target=shop.serve_forever, args=(0.02,))
    serving.start()
    yield shop
    shop.go_on.set()
    shop.shutdown()
    serving.join()
    shop.server_close()


def test_a_session_pays_and_hears_the_answer_as_it_is_spoken(wallet, shop, ledger):
    with (
        paying_session(wallet, Decimal("0.01")) as session,
        session.post(shop.url, json={"topic": "rain"}, stream=True, timeout=10) as reply,
    ):
        lines = reply.iter_lines(chunk_size=1)
        assert (reply.status_code, next(lines)) == (200, b"data: one")
        shop.go_on.set()
        assert [line for line in lines if line] == [b"data: two"]

    assert [header is not None for header in shop.headers] == [False, True]
    assert ledger.balance(wallet.address) == GRANT - 10_000
    assert ledger.balance(CREATOR) == GRANT + 10_000


def test_a_session_does_not_pay_more_than_it_was_told(wallet, shop, ledger):
    with (
        paying_session(wallet, Decimal("0.009")) as session,
        pytest.raises(PaymentError, match="spend_controls"),
    ):
        session.post(shop.url, json={}, timeout=10)

    assert shop.headers == [None]
    assert ledger.transfers() == []


def test_a_session_pays_once_and_then_takes_no_for_an_answer(wallet, shop, ledger):
    shop.price = 2 * GRANT
    with paying_session(wallet, Decimal(1000)) as session:
        reply = session.post(shop.url, json={}, timeout=10)

    assert reply.status_code == 402
    assert len(shop.headers) == 2
    assert ledger.transfers() == []
