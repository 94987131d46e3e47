"""Two networks of play money, and payments on them that come from a seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from eth_account import Account

from tests.blueprints.conftest import SEPOLIA, as_v1, forge, headers_of, on_sepolia, v1_headers_of
from x402jobs.devkit.development_ledger import DevelopmentLedger, Transfer
from x402jobs.devkit.wallet import Wallet
from x402jobs.domain.networks import DEVELOPMENT, Networks
from x402jobs.domain.secret import Secret
from x402jobs.wiring import development_ledger

BOTH = Networks((DEVELOPMENT, SEPOLIA))


def ledgers(data: Path) -> tuple[DevelopmentLedger, DevelopmentLedger]:
    """The play money of both networks."""
    return development_ledger(data), DevelopmentLedger(data / "sepolia-ledger.sqlite3", SEPOLIA)


@dataclass(frozen=True)
class Presented:
    """One authorization in each wrapping it can come in, and what it asks for.

    `topic` is in the request and in the prompt, so that every call of Claude's tells whose it is.
    """

    nonce: str
    payer: str
    valid_before: int
    topic: str
    wrappings: tuple[dict[str, str], ...]

    @property
    def answer(self) -> str:
        """What Claude says to it, and to no other."""
        return f"Rain for {self.topic}, " * 6 + "and the sun."


class Purse:
    """Payments, each signed by a wallet of the seed's; any thread may take the next."""

    def __init__(self, seed: int, wallets: int = 40) -> None:
        self._random = random.Random(f"purse {seed}")
        self._wallets = [self._wallet() for _ in range(wallets)]
        self._lock = Lock()
        self.taken: list[Presented] = []

    def next(self, *, fresh_wallet: bool = False, **signed: Any) -> Presented:
        """One payment more. `fresh_wallet`: of an address that has never paid."""
        with self._lock:
            nonce = "0x" + self._random.randbytes(32).hex()
            wallet = self._wallet() if fresh_wallet else self._random.choice(self._wallets)
            has_v1 = self._random.random() < 0.5
        signed = {"nonce": nonce} | signed
        if has_v1:
            document = on_sepolia(wallet, **signed)
            wrappings = (headers_of(document), v1_headers_of(as_v1(document)))
        else:
            document = forge(wallet, **signed)
            wrappings = (headers_of(document),)
        valid_before = int(document["payload"]["authorization"]["validBefore"])
        payment = Presented(nonce, wallet.address, valid_before, f"topic-{nonce[2:18]}", wrappings)
        with self._lock:
            self.taken.append(payment)
        return payment

    def _wallet(self) -> Wallet:
        key = "0x" + self._random.randbytes(32).hex()
        return Wallet(Account.from_key(key).address.lower(), Secret(key))


def transfers(of: tuple[DevelopmentLedger, ...]) -> Iterator[Transfer]:
    """Every transfer there is."""
    for ledger in of:
        yield from ledger.transfers()
