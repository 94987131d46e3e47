"""Play money that behaves: the SDK's own facilitator over a token kept in SQLite.

Signatures, windows, nonces and balances are checked as on a chain, first by the SDK's verifier and
again by the token, whose refusals are worded so that the SDK recognises them.
"""

import secrets
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from x402 import x402FacilitatorSync
from x402.mechanisms.evm.exact import ExactEvmFacilitatorScheme
from x402.mechanisms.evm.exact.eip3009_utils import ERC20_TRANSFER_EVENT_TOPIC
from x402.mechanisms.evm.types import TransactionReceipt

from x402jobs.adapters.facilitator import recover
from x402jobs.adapters.sqlite import Database
from x402jobs.domain.errors import StoreUnavailable
from x402jobs.domain.money import MICRO
from x402jobs.domain.networks import DEVELOPMENT, Network
from x402jobs.domain.payment import Authorization
from x402jobs.ports import SpentElsewhere, Transferred, Unseen, Unused

GRANT = 100 * MICRO
"""What every address begins with, in micro-dollars: whoever comes can pay."""

_BALANCES = f"""
    CREATE TABLE balances (
        address TEXT PRIMARY KEY,
        value INTEGER NOT NULL CHECK (value >= 0)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER transfers_moved AFTER INSERT ON transfers BEGIN
        INSERT OR IGNORE INTO balances VALUES (NEW.payee, {GRANT}), (NEW.payer, {GRANT});
        UPDATE balances SET value = value + NEW.value WHERE address = NEW.payee;
        UPDATE balances SET value = value - NEW.value WHERE address = NEW.payer;
    END;
"""
_SCHEMA = f"""
    CREATE TABLE transfers (
        transaction_hash TEXT PRIMARY KEY,
        payer TEXT NOT NULL,
        payee TEXT NOT NULL,
        value INTEGER NOT NULL CHECK (value >= 0),
        nonce TEXT NOT NULL,
        at REAL NOT NULL,
        UNIQUE (payer, nonce)
    ) STRICT;
    {_BALANCES}
"""
_UPGRADE = f"""
    {_BALANCES}
    INSERT INTO balances
        SELECT address, {GRANT} + SUM(value) FROM (
            SELECT payee AS address, value FROM transfers
            UNION ALL SELECT payer, -value FROM transfers
        )
        GROUP BY address;
    DROP INDEX transfers_out;
    DROP INDEX transfers_in;
"""
"""The first version summed a balance from all there had ever been: slower with every sale."""


@dataclass(frozen=True)
class Transfer:
    """One line of the ledger: `value` in micro-dollars, `at` in unix seconds."""

    transaction: str
    payer: str
    payee: str
    value: int
    nonce: str
    at: float


class Reverted(Exception):
    """The token refuses; the words are those the SDK looks for in a chain's errors."""

    def __init__(self, why: str) -> None:
        super().__init__(f"execution reverted: {why}")


class DevelopmentLedger:
    """Who has paid whom, and what each has: the grant, plus received, minus sent."""

    def __init__(self, path: Path, network: Network = DEVELOPMENT) -> None:
        # Not durable: a power cut may forget the newest play money.
        self._database = Database(path, _SCHEMA, [_UPGRADE], durable=False)
        self._network = network

    def facilitator(self) -> x402FacilitatorSync:
        """A facilitator in this process that verifies and settles on this ledger."""
        return self.join(x402FacilitatorSync())

    def join(self, facilitator: x402FacilitatorSync) -> x402FacilitatorSync:
        """The same facilitator, which now serves this ledger's network as well."""
        token = _Token(self, self._network)
        facilitator.register([self._network.id], ExactEvmFacilitatorScheme(token))
        # Of one network the SDK makes "eip155:*": whoever joined first would serve every chain.
        facilitator._schemes[-1].pattern = self._network.id
        return facilitator

    def balance(self, address: str) -> int:
        """What the address has, in micro-dollars."""
        with self._database.connection() as connection:
            return _balance(connection, address.lower())

    def spent(self, payer: str, nonce: str) -> bool:
        """Whether the payer's nonce has been used."""
        with self._database.connection() as connection:
            return _spent(connection, payer, nonce)

    def transfers(self) -> list[Transfer]:
        """Every transfer, oldest first."""
        return self._select("ORDER BY rowid")

    def transfer(self, transaction: str) -> Transfer | None:
        """The transfer that this transaction made."""
        return next(iter(self._select("WHERE transaction_hash = ?", transaction)), None)

    def check(self, signed: Authorization) -> None:
        """Raise Reverted unless this could be moved now."""
        with self._database.connection() as connection:
            _check(connection, signed)

    def move(self, signed: Authorization) -> str:
        """Check and transfer in one transaction; its hash. Raises Reverted and then moves nothing.

        The signature is the token's to judge, and so is the window; but that it is still open is
        looked at again here, where the move is made: what `look` has called unused after its window
        stays unused.
        """
        transaction = f"0x{secrets.token_hex(32)}"
        line = (transaction, signed.payer, signed.to, signed.value, signed.nonce, time.time())
        with self._database.write() as connection:
            if not time.time() < signed.valid_before:
                raise Reverted("authorization is expired")
            _check(connection, signed)
            connection.execute("INSERT INTO transfers VALUES (?, ?, ?, ?, ?, ?)", line)
        return transaction

    def look(
        self, signed: Authorization, network: Network, since: float
    ) -> Transferred | SpentElsewhere | Unused | Unseen:
        """ports.Chain: every line of the ledger is deep enough, and nobody can cancel.

        Read in turn with the writers, so that no move can be under way at the time it tells.
        """
        if network.id != self._network.id:
            return Unseen("another_chain")
        used = "SELECT transaction_hash, payee, value FROM transfers WHERE payer = ? AND nonce = ?"
        try:
            with self._database.write() as connection:
                now = time.time()
                line = connection.execute(used, (signed.payer, signed.nonce)).fetchone()
        except StoreUnavailable:
            return Unseen("no_answer")
        if line is None:
            return Unused(at=now)
        if (line["payee"], line["value"]) != (signed.to, signed.value):
            return SpentElsewhere()
        return Transferred(line["transaction_hash"], log_index=0)

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        self._database.close()

    def _select(self, rest: str, *values: str) -> list[Transfer]:
        columns = "transaction_hash, payer, payee, value, nonce, at"
        rows = self._database.read(f"SELECT {columns} FROM transfers {rest}", *values)
        return [Transfer(*row) for row in rows]


class _Token:
    """The SDK's `FacilitatorEvmSigner`: a chain on which there is one token and no gas."""

    def __init__(self, ledger: DevelopmentLedger, network: Network) -> None:
        self._ledger = ledger
        self._network = network

    def get_addresses(self) -> list[str]:
        return []

    def get_chain_id(self) -> int:
        return self._network.chain_id

    def get_code(self, address: str) -> bytes:
        return b"\x01" if self._is_here(address) else b""

    def get_balance(self, address: str, token_address: str) -> int:
        return int(self.read_contract(token_address, [], "balanceOf", address))

    def read_contract(
        self, address: str, abi: list[dict[str, Any]], function_name: str, *args: Any
    ) -> Any:
        if not self._is_here(address):
            raise Reverted("there is no contract at this address")
        match function_name, args:
            case "transferWithAuthorization", _:
                return self._ledger.check(self._authorized(args))
            case "authorizationState", (payer, nonce):
                return self._ledger.spent(payer.lower(), _hex(nonce))
            case "balanceOf", (account,):
                return self._ledger.balance(account)
            case "name", ():
                return self._network.token_name
            case "version", ():
                return self._network.token_version
            case "decimals", ():
                return 6
        raise Reverted("the token has no such function")

    def write_contract(
        self,
        address: str,
        abi: list[dict[str, Any]],
        function_name: str,
        *args: Any,
        data_suffix: str | None = None,
    ) -> str:
        if not self._is_here(address) or function_name != "transferWithAuthorization":
            raise Reverted("the token has no such function")
        return self._ledger.move(self._authorized(args))

    def wait_for_transaction_receipt(self, tx_hash: str) -> TransactionReceipt:
        transfer = self._ledger.transfer(tx_hash)
        if transfer is None:
            raise LookupError("no such transaction")
        event = {
            "address": self._network.token,
            "topics": [
                ERC20_TRANSFER_EVENT_TOPIC,
                _word(int(transfer.payer, 16)),
                _word(int(transfer.payee, 16)),
            ],
            "data": _word(transfer.value),
        }
        return TransactionReceipt(status=1, block_number=1, tx_hash=tx_hash, logs=[event])

    def verify_typed_data(self, *_: Any, **__: Any) -> bool:
        raise NotImplementedError("only Permit2 asks for this")

    def send_transaction(self, to: str, data: bytes) -> str:
        raise NotImplementedError("only smart wallets need this")

    def _is_here(self, address: str) -> bool:
        return address.lower() == self._network.token.lower()

    def _authorized(self, args: tuple[Any, ...]) -> Authorization:
        """The authorization in a call's arguments, its window and signature checked.

        Under the token's *own* domain, which is what the SDK leaves to the contract: it verifies
        under the name and version that the requirements say. Circle's token also begins with the
        window; both ends of it are exclusive.
        """
        payer, to, value, valid_after, valid_before, nonce, *parts = args
        signed = Authorization(
            payer.lower(), to.lower(), value, valid_after, valid_before, _hex(nonce)
        )
        if not signed.valid_after < time.time():
            raise Reverted("authorization is not yet valid")
        if not time.time() < signed.valid_before:
            raise Reverted("authorization is expired")
        if recover(signed, _signature(*parts), self._network) != signed.payer:
            raise Reverted("invalid signature")
        return signed


def _check(connection: sqlite3.Connection, signed: Authorization) -> None:
    # The nonce first, like Circle's token: a settled payment must never look merely uncovered.
    if _spent(connection, signed.payer, signed.nonce):
        raise Reverted("authorization is used")
    if _balance(connection, signed.payer) < signed.value:
        raise Reverted("transfer amount exceeds balance")


def _spent(connection: sqlite3.Connection, payer: str, nonce: str) -> bool:
    used = "SELECT EXISTS (SELECT 1 FROM transfers WHERE payer = ? AND nonce = ?)"
    return bool(connection.execute(used, (payer, nonce)).fetchone()[0])


def _balance(connection: sqlite3.Connection, address: str) -> int:
    """What the address has; who has never been paid, nor has paid, has the grant."""
    found = connection.execute("SELECT value FROM balances WHERE address = ?", [address]).fetchone()
    return int(found["value"]) if found else GRANT


def _signature(*parts: Any) -> bytes:
    """The 65 bytes, from either overload of the contract's function: bytes, or v, r and s."""
    if len(parts) == 3:
        v, r, s = parts
        return bytes(r) + bytes(s) + bytes([v])
    return bytes(parts[0])


def _hex(data: bytes) -> str:
    return f"0x{data.hex()}"


def _word(number: int) -> str:
    return f"0x{number:064x}"
