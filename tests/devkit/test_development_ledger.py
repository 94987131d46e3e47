"""Play money behaves like money, whoever shares its file."""

import multiprocessing
import secrets
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from x402.mechanisms.evm.constants import (
    TRANSFER_WITH_AUTHORIZATION_BYTES_ABI,
    TRANSFER_WITH_AUTHORIZATION_VRS_ABI,
)
from x402.mechanisms.evm.exact.eip3009_utils import verify_eip3009_transfer_event

from x402jobs.devkit.development_ledger import (
    GRANT,
    DevelopmentLedger,
    Reverted,
    _Token,
)
from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.domain.payment import Authorization

ADA = "0x" + "ad" * 20
BOB = "0x" + "b0" * 20
TOKEN = DEVELOPMENT.token


def from_ada(value: int = 10_000, nonce: str | None = None, to: str = BOB) -> Authorization:
    nonce = nonce or "0x" + secrets.token_hex(32)
    return Authorization(ADA, to, value, 0, int(time.time()) + 120, nonce)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[DevelopmentLedger]:
    ledger = DevelopmentLedger(tmp_path / "data" / "ledger.sqlite3")
    yield ledger
    ledger.close()


@pytest.fixture
def token(ledger: DevelopmentLedger) -> _Token:
    return _Token(ledger, DEVELOPMENT)


# Balances


def test_every_address_begins_with_a_hundred_dollars(ledger):
    assert ledger.balance(ADA) == ledger.balance("0x" + "99" * 20) == GRANT == 100_000_000


def test_a_balance_is_the_grant_plus_received_minus_sent(ledger):
    for value in (1, 20, 300):
        ledger.move(from_ada(value))
    ledger.move(replace(from_ada(4000, to=ADA), payer=BOB))

    assert ledger.balance(ADA) == GRANT - 321 + 4000
    assert ledger.balance(BOB.upper().replace("X", "x")) == GRANT + 321 - 4000
    assert [each.value for each in ledger.transfers()] == [1, 20, 300, 4000]


def test_paying_oneself_changes_nothing(ledger):
    ledger.move(from_ada(to=ADA))

    assert ledger.balance(ADA) == GRANT


def test_a_transfer_is_written_down(ledger):
    signed = from_ada()
    transaction = ledger.move(signed)

    (line,) = ledger.transfers()

    assert ledger.transfer(transaction) == line
    assert (line.transaction, line.payer, line.payee, line.value, line.nonce) == (
        transaction,
        ADA,
        BOB,
        10_000,
        signed.nonce,
    )
    assert abs(line.at - time.time()) < 60
    assert ledger.transfer("0x" + "00" * 32) is None


# What is refused


def test_a_nonce_is_used_once_for_each_payer(ledger):
    signed = from_ada()
    ledger.move(signed)

    with pytest.raises(Reverted, match="execution reverted: authorization is used"):
        ledger.move(replace(signed, value=1, to=ADA))
    with pytest.raises(Reverted, match="authorization is used"):
        ledger.check(signed)

    ledger.move(replace(signed, payer=BOB))
    assert len(ledger.transfers()) == 2


def test_nobody_spends_more_than_they_have(ledger):
    ledger.move(from_ada(GRANT - 5))

    with pytest.raises(Reverted, match="transfer amount exceeds balance"):
        ledger.move(from_ada(6))
    with pytest.raises(Reverted, match="transfer amount exceeds balance"):
        ledger.move(from_ada(2**256 - 1))
    ledger.move(from_ada(5))

    assert (ledger.balance(ADA), ledger.balance(BOB)) == (0, 2 * GRANT)


def test_a_used_nonce_is_said_before_an_empty_purse(ledger):
    signed = from_ada(GRANT)
    ledger.move(signed)

    with pytest.raises(Reverted, match="authorization is used"):
        ledger.move(signed)


# Sharing


def test_ten_threads_spend_one_nonce_once(ledger):
    signed, together = from_ada(), threading.Barrier(10)

    def attempt(_: int) -> bool:
        together.wait()
        try:
            return bool(ledger.move(signed))
        except Reverted:
            return False

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(attempt, range(10))) == 1
    assert ledger.balance(ADA) == GRANT - 10_000


def test_ten_threads_cannot_overdraw(ledger):
    def attempt(_: int) -> bool:
        try:
            return bool(ledger.move(from_ada(GRANT // 100)))
        except Reverted:
            return False

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(attempt, range(300))) == 100
    assert ledger.balance(ADA) == 0


def _open_all(paths: list[Path], together: Any) -> None:
    for path in paths:
        together.wait(30)
        DevelopmentLedger(path).balance(ADA)


def test_processes_that_open_a_new_file_together_all_get_it(tmp_path):
    # Without the lock on opening, about one in thirty hears "database is locked".
    context = multiprocessing.get_context("fork")
    together = context.Barrier(8)
    paths = [tmp_path / f"{number}.sqlite3" for number in range(40)]
    workers = [context.Process(target=_open_all, args=(paths, together)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert [worker.exitcode for worker in workers] == [0] * 8


def _spend_all(path: Path, authorizations: list[Authorization], start: Any, won: Any) -> None:
    ledger = DevelopmentLedger(path)
    start.wait(30)
    for signed in authorizations:
        try:
            won.put(ledger.move(signed))
        except Reverted:
            won.put(None)
    ledger.close()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_that_share_a_file_spend_each_nonce_once(ledger, tmp_path, method):
    context = multiprocessing.get_context(method)
    authorizations = [from_ada(1) for _ in range(20)]
    start, won = context.Event(), context.Queue()
    path = tmp_path / "data" / "ledger.sqlite3"
    workers = [
        context.Process(target=_spend_all, args=(path, authorizations, start, won))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    start.set()
    moved = [won.get(timeout=60) for _ in range(40)]
    for worker in workers:
        worker.join(60)

    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(each for each in moved if each) == sorted(
        each.transaction for each in ledger.transfers()
    )
    assert (len(ledger.transfers()), ledger.balance(ADA)) == (20, GRANT - 20)


def _spend_inherited(ledger: DevelopmentLedger, signed: Authorization) -> None:
    ledger.move(signed)


def test_a_ledger_opened_before_a_fork_works_on_both_sides(ledger):
    ledger.move(from_ada(1))
    child = multiprocessing.get_context("fork").Process(
        target=_spend_inherited, args=(ledger, from_ada(2))
    )
    with (
        ledger._database.connection()
    ):  # as if another thread were busy: the child inherits a lock nobody frees
        child.start()
        child.join(10)
    child.kill()
    child.join()
    ledger.move(from_ada(4))

    assert child.exitcode == 0
    assert [each.value for each in ledger.transfers()] == [1, 2, 4]


def test_the_money_is_there_after_the_file_was_let_go(ledger):
    ledger.move(from_ada())
    ledger.close()
    ledger.close()

    assert ledger.balance(ADA) == GRANT - 10_000


def test_a_file_of_the_first_version_keeps_everybodys_money(tmp_path):
    file = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(file)) as before, before:
        before.executescript(f"""
            CREATE TABLE transfers (
                transaction_hash TEXT PRIMARY KEY,
                payer TEXT NOT NULL,
                payee TEXT NOT NULL,
                value INTEGER NOT NULL CHECK (value >= 0),
                nonce TEXT NOT NULL,
                at REAL NOT NULL,
                UNIQUE (payer, nonce)
            ) STRICT;
            CREATE INDEX transfers_out ON transfers (payer, value);
            CREATE INDEX transfers_in ON transfers (payee, value);
            INSERT INTO transfers VALUES ('0x1', '{ADA}', '{BOB}', 700, '0x1', 1.0);
            INSERT INTO transfers VALUES ('0x2', '{BOB}', '{ADA}', 80, '0x1', 2.0);
            INSERT INTO transfers VALUES ('0x3', '{ADA}', '{ADA}', 9, '0x2', 3.0);
            PRAGMA user_version = 1;
        """)

    with closing(DevelopmentLedger(file)) as ledger:
        ledger.move(from_ada(5))

        assert ledger.balance(ADA) == GRANT - 700 + 80 - 5
        assert ledger.balance(BOB) == GRANT + 700 - 80 + 5
        assert ledger.balance("0x" + "99" * 20) == GRANT
        assert [each.value for each in ledger.transfers()] == [700, 80, 9, 5]


def test_the_file_is_its_owners_alone(ledger, tmp_path):
    ledger.move(from_ada())

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "data").iterdir()}

    assert len(modes) == 3, "the database, its -wal and its -shm"
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_nothing_is_opened_before_it_is_needed(tmp_path):
    DevelopmentLedger(tmp_path / "data" / "ledger.sqlite3").facilitator()

    assert list(tmp_path.iterdir()) == []


# The token, as a facilitator sees it


def call(signed: Authorization, key: str, **domain: Any) -> list[Any]:
    """The arguments of transferWithAuthorization, with v, r and s."""
    message = {
        "from": signed.payer,
        "to": signed.to,
        "value": signed.value,
        "validAfter": signed.valid_after,
        "validBefore": signed.valid_before,
        "nonce": bytes.fromhex(signed.nonce[2:]),
    }
    kinds = ["address", "address", "uint256", "uint256", "uint256", "bytes32"]
    fields = [{"name": name, "type": kind} for name, kind in zip(message, kinds, strict=True)]
    about = {
        "name": DEVELOPMENT.token_name,
        "version": DEVELOPMENT.token_version,
        "chainId": DEVELOPMENT.chain_id,
        "verifyingContract": TOKEN,
    } | domain
    signature = Account.sign_typed_data(
        key, about, {"TransferWithAuthorization": fields}, message
    ).signature
    return [*message.values(), signature[64], bytes(signature[:32]), bytes(signature[32:64])]


def signed_by_somebody(**fields: Any) -> tuple[Authorization, str]:
    somebody = Account.create()
    signed = replace(from_ada(), payer=somebody.address.lower(), **fields)
    return signed, "0x" + somebody.key.hex()


def test_the_token_answers_a_reader(token, ledger):
    signed = from_ada()
    nonce = bytes.fromhex(signed.nonce[2:])

    assert token.read_contract(TOKEN, [], "balanceOf", ADA) == GRANT
    assert token.read_contract(TOKEN, [], "authorizationState", ADA, nonce) is False
    ledger.move(signed)
    assert token.read_contract(TOKEN, [], "authorizationState", ADA, nonce) is True
    assert token.get_balance(ADA, TOKEN) == GRANT - 10_000
    assert token.read_contract(TOKEN.upper().replace("X", "x"), [], "name") == "Development Dollar"
    assert token.read_contract(TOKEN, [], "version") == "1"
    assert token.read_contract(TOKEN, [], "decimals") == 6
    assert (token.get_chain_id(), token.get_addresses()) == (31337, [])
    assert (bool(token.get_code(TOKEN)), bool(token.get_code(ADA))) == (True, False)


def test_a_simulation_moves_nothing_and_a_transaction_does(token, ledger):
    signed, key = signed_by_somebody()
    arguments = call(signed, key)

    token.read_contract(
        TOKEN, TRANSFER_WITH_AUTHORIZATION_VRS_ABI, "transferWithAuthorization", *arguments
    )
    assert ledger.transfers() == []

    transaction = token.write_contract(
        TOKEN, TRANSFER_WITH_AUTHORIZATION_VRS_ABI, "transferWithAuthorization", *arguments
    )
    receipt = token.wait_for_transaction_receipt(transaction)

    assert (receipt.status, receipt.tx_hash) == (1, transaction)
    told = {"from_address": signed.payer, "to": BOB, "value": 10_000}
    assert verify_eip3009_transfer_event(receipt.logs, TOKEN, **told)
    assert not verify_eip3009_transfer_event(receipt.logs, TOKEN, **told | {"value": 10_001})
    assert ledger.balance(signed.payer) == GRANT - 10_000


def test_the_other_overload_takes_the_signature_whole(token, ledger):
    signed, key = signed_by_somebody()
    *fields, v, r, s = call(signed, key)

    token.write_contract(
        TOKEN,
        TRANSFER_WITH_AUTHORIZATION_BYTES_ABI,
        "transferWithAuthorization",
        *fields,
        r + s + bytes([v]),
    )

    assert ledger.balance(signed.payer) == GRANT - 10_000


NOW = int(time.time())


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"valid_before": NOW - 1}, "authorization is expired"),
        ({"valid_after": NOW + 1000}, "authorization is not yet valid"),
        ({"value": GRANT + 1}, "transfer amount exceeds balance"),
    ],
)
def test_the_token_refuses_in_words_the_sdk_knows(token, ledger, fields, why):
    signed, key = signed_by_somebody(**fields)
    arguments = call(signed, key)

    for act in (token.read_contract, token.write_contract):
        with pytest.raises(Reverted, match=why):
            act(TOKEN, [], "transferWithAuthorization", *arguments)
    assert ledger.transfers() == []


@pytest.mark.parametrize(
    "domain",
    [{"name": "USD Coin"}, {"version": "2"}, {"chainId": 1}, {"verifyingContract": ADA}],
)
def test_the_token_refuses_what_was_signed_for_another(token, ledger, domain):
    signed, key = signed_by_somebody()

    for act in (token.read_contract, token.write_contract):
        with pytest.raises(Reverted, match="invalid signature"):
            act(TOKEN, [], "transferWithAuthorization", *call(signed, key, **domain))
    assert ledger.transfers() == []


def test_the_token_refuses_what_somebody_else_signed(token, ledger):
    signed, _ = signed_by_somebody()
    _, another_key = signed_by_somebody()

    with pytest.raises(Reverted, match="invalid signature"):
        token.write_contract(TOKEN, [], "transferWithAuthorization", *call(signed, another_key))
    assert ledger.transfers() == []


def test_there_is_nothing_at_any_other_address(token, ledger):
    signed, key = signed_by_somebody()

    for act in (token.read_contract, token.write_contract):
        with pytest.raises(Reverted):
            act(ADA, [], "transferWithAuthorization", *call(signed, key))
        with pytest.raises(Reverted):
            act(TOKEN, [], "mint", ADA, 1)
    assert ledger.transfers() == []


def test_a_transaction_nobody_made_has_no_receipt(token):
    with pytest.raises(LookupError):
        token.wait_for_transaction_receipt("0x" + "12" * 32)


def test_what_only_permit2_and_smart_wallets_need_is_not_there(token):
    with pytest.raises(NotImplementedError):
        token.verify_typed_data(ADA, {}, {}, "", {}, b"")
    with pytest.raises(NotImplementedError):
        token.send_transaction(ADA, b"")
