"""A real chain, a node in front of it, and ports.Chain over both that and the play money."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest

from tests.chain.evm import Evm, Payer, Signed
from tests.chain.node import RpcNode
from x402jobs.adapters.chain import RpcChain
from x402jobs.adapters.facilitator import X402Facilitator
from x402jobs.devkit import development_ledger as play_money
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.domain.networks import DEVELOPMENT, Network
from x402jobs.domain.payment import Payment, PaymentRequirements
from x402jobs.ports import Chain, Facilitator, Settled

DEPTH = 2


@dataclass
class ChainClock:
    """The chain's own time: every block of a test is a second younger than the one before."""

    evm: Evm

    def now(self) -> float:
        return self.evm.time

    def monotonic(self) -> float:
        return self.evm.time


@pytest.fixture(scope="session")
def genesis() -> Evm:
    """The chain with the token on it. Taken back to this by each test that has used it."""
    return Evm()


@pytest.fixture
def evm(genesis: Evm) -> Iterator[Evm]:
    before = genesis.tester.take_snapshot()
    yield genesis
    genesis.tester.auto_mine_transactions = True
    genesis.tester.revert_to_snapshot(before)


@pytest.fixture(scope="session")
def rpc_node(genesis: Evm) -> Iterator[RpcNode]:
    with RpcNode(genesis) as node:
        yield node


@pytest.fixture
def node(rpc_node: RpcNode, evm: Evm) -> RpcNode:
    """A node of that chain, honest and with nothing remembered."""
    rpc_node.forget()
    return rpc_node


@pytest.fixture
def chain(evm: Evm, node: RpcNode) -> Iterator[RpcChain]:
    """The chain as the product sees it: two blocks deep."""
    chain = RpcChain({evm.network.id: node.url}, DEPTH, ChainClock(evm))
    yield chain
    chain.close()


def settle(facilitator: Facilitator, signed: Signed, network: Network) -> str:
    """Pay through a facilitator; the hash of the transaction it tells."""
    outcome = facilitator.settle(payment_of(signed, network), asked_of(signed, network))
    assert isinstance(outcome, Settled), outcome
    return outcome.transaction


def payment_of(signed: Signed, network: Network) -> Payment:
    """What a caller would present."""
    authorization = signed.authorization
    return Payment(
        authorization=authorization,
        signature=signed.signature,
        scheme="exact",
        network=network.id,
        asset=network.token.lower(),
        amount=str(authorization.value),
        pay_to=authorization.to,
    )


def asked_of(signed: Signed, network: Network) -> PaymentRequirements:
    return PaymentRequirements(network, signed.authorization.value, signed.authorization.to)


class Money(Protocol):
    """Money somewhere, and its chain. What `look` promises is promised of every one."""

    chain: Chain
    network: Network
    facilitator: Facilitator

    def payer(self, funds: int) -> Payer:
        """Somebody with at most this much money."""
        ...

    def sign(self, payer: Payer, to: str, value: int, **window: Any) -> Signed: ...

    def move(self, signed: Signed) -> str:
        """Move it without any facilitator; the transaction's hash."""
        ...

    def bury(self) -> None:
        """Whatever has happened is deep enough from now on."""
        ...

    def now(self) -> float: ...

    def let_pass(self, until: float) -> None: ...

    def vanish(self) -> None:
        """Be there no longer."""
        ...


@dataclass
class EvmMoney:
    evm: Evm
    node: RpcNode
    chain: Chain
    network: Network = field(init=False)
    facilitator: Facilitator = field(init=False)

    def __post_init__(self) -> None:
        self.network = self.evm.network
        self.facilitator = X402Facilitator(self.evm.facilitator(), [self.network])

    def payer(self, funds: int) -> Payer:
        return self.evm.payer(funds)

    def sign(self, payer: Payer, to: str, value: int, **window: Any) -> Signed:
        return self.evm.sign(payer, to, value, **window)

    def move(self, signed: Signed) -> str:
        return self.evm.submit(signed, by=self.evm.stranger)

    def bury(self) -> None:
        self.evm.mine(DEPTH)

    def now(self) -> float:
        return self.evm.time

    def let_pass(self, until: float) -> None:
        self.evm.let_pass(int(until))
        self.bury()

    def vanish(self) -> None:
        self.node.stop()


@dataclass
class PlayMoney:
    chain: DevelopmentLedger
    signing: Evm
    clock: Any
    path: Path
    network: Network = DEVELOPMENT
    facilitator: Facilitator = field(init=False)

    def __post_init__(self) -> None:
        self.facilitator = X402Facilitator(self.chain.facilitator())

    def payer(self, funds: int) -> Payer:
        """Everybody begins with the same: what is too much goes away."""
        payer = self.signing.payer(0)
        if too_much := play_money.GRANT - funds:
            self.move(self.sign(payer, "0x" + "99" * 20, too_much))
        return payer

    def sign(self, payer: Payer, to: str, value: int, **window: Any) -> Signed:
        window = {"valid_before": int(self.now()) + 10_000} | window
        return self.signing.sign(payer, to, value, network=self.network, **window)

    def move(self, signed: Signed) -> str:
        return self.chain.move(signed.authorization)

    def bury(self) -> None:
        pass

    def now(self) -> float:
        return float(self.clock.time())

    def let_pass(self, until: float) -> None:
        self.clock.time = lambda: until + 1

    def vanish(self) -> None:
        self.chain.close()
        self.path.write_bytes(b"not a database")


@pytest.fixture(params=["a chain", "play money"])
def money(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Money]:
    if request.param == "a chain":
        evm, node, chain = map(request.getfixturevalue, ("evm", "node", "chain"))
        yield EvmMoney(evm, node, chain)
        node.stop()
        node.start()
        return
    clock = SimpleNamespace(time=play_money.time.time)
    monkeypatch.setattr(play_money, "time", clock)
    path = tmp_path / "ledger.sqlite3"
    ledger = DevelopmentLedger(path)
    yield PlayMoney(ledger, request.getfixturevalue("genesis"), clock, path)
    ledger.close()
