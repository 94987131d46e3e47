"""Whether a node can be relied on: what is asked of it, how often, and what follows."""

import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from tests.chain.evm import Evm
from tests.chain.node import RpcNode, Script
from tests.conftest import PAY_TO, PRICE
from tests.fakes import FakeClock
from tests.waiting import eventually
from x402jobs.adapters import chain
from x402jobs.adapters.chain import WELL_SECONDS, RpcChain
from x402jobs.ports import Unseen

FOREIGN = "eip155:1"


@pytest.fixture
def clock(evm: Evm) -> FakeClock:
    return FakeClock(float(evm.time))


@pytest.fixture
def watched(evm: Evm, node: RpcNode, clock: FakeClock) -> Iterator[RpcChain]:
    watched = RpcChain({evm.network.id: node.url}, 0, clock)
    yield watched
    watched.close()


def reason(chain: RpcChain) -> str | None:
    trouble = chain.trouble()
    assert trouble is None or "planted-node-key" not in trouble.sentence
    return trouble.reason if trouble is not None else None


def test_a_node_that_is_well_is_asked_every_fifteen_seconds(watched, node, clock) -> None:
    for _ in range(16):  # from 0 to 30 s
        assert reason(watched) is None
        clock.advance(2)

    assert node.asked == ["eth_chainId", *["eth_getBlockByNumber"] * 2]
    assert WELL_SECONDS == 15


@pytest.mark.parametrize(
    ("method", "script", "expected"),
    [
        ("eth_getBlockByNumber", Script(status=500), "no_answer"),
        ("eth_getBlockByNumber", Script(status=401), "no_answer"),
        ("eth_getBlockByNumber", Script(body="<html>planted-node-key"), "malformed"),
        ("eth_getBlockByNumber", Script(change=lambda _: None), "malformed"),
        ("eth_chainId", Script(change=lambda _: "0x1"), "another_chain"),
    ],
)
def test_a_node_that_cannot_be_relied_on_is_told_of_until_it_can(
    watched, node, evm, method, script, expected
) -> None:
    node.script(method, script)

    assert [reason(watched), reason(watched)] == [expected] * 2
    assert not watched.can_judge(evm.network)
    node.forget()
    assert reason(watched) is None
    assert watched.can_judge(evm.network)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(299, None), (301, "behind"), (-59, None), (-61, "ahead")],
)
def test_a_head_is_fresh_enough_to_a_second(watched, clock, seconds, expected) -> None:
    clock.advance(seconds)

    assert reason(watched) == expected


def test_whoever_met_with_trouble_has_it_looked_at_soon(watched, node, evm) -> None:
    assert reason(watched) is None
    signed = evm.sign(evm.payer(0), PAY_TO, PRICE)
    node.stop()

    seen = watched.look(signed.authorization, evm.network, 0.0)
    found = reason(watched)
    node.start()

    assert (seen, found) == (Unseen("no_answer"), "no_answer")
    assert reason(watched) is None


def test_one_node_in_trouble_takes_no_other_network_away(node, evm, clock) -> None:
    both = RpcChain({FOREIGN: node.url, evm.network.id: node.url}, 0, clock)

    assert reason(both) == "another_chain"
    assert both.can_judge(evm.network)
    both.close()


def test_a_silent_node_takes_no_other_network_away_either(node, evm, clock, monkeypatch) -> None:
    monkeypatch.setattr(chain, "WATCH_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        both = RpcChain({FOREIGN: url, evm.network.id: node.url}, 0, clock)

        assert reason(both) == "no_answer"
        assert both.can_judge(evm.network)
        both.close()


def test_while_somebody_waits_for_a_node_it_is_looked_at(watched, node, evm, clock) -> None:
    assert reason(watched) is None
    signed = evm.sign(evm.payer(0), PAY_TO, PRICE)
    node.script("eth_getBlockByNumber", Script(silence=5))
    looking = Thread(target=watched.look, args=(signed.authorization, evm.network, 0.0))
    looking.start()
    assert eventually(lambda: node.asked[1:].count("eth_getBlockByNumber") == 2)
    node.script("eth_getBlockByNumber", Script(status=500))

    soon, later = reason(watched), clock.advance(3) or reason(watched)

    looking.join()
    assert (soon, later) == (None, "no_answer")


def test_what_hung_through_an_outage_does_not_begin_it_anew(watched, node, evm) -> None:
    assert reason(watched) is None
    watched._well_until = None
    node.script("eth_getBlockByNumber", Script(silence=0.5, status=500))
    hanging = Thread(target=watched.trouble)
    hanging.start()
    assert eventually(lambda: node.asked.count("eth_getBlockByNumber") == 2)
    node.forget()

    assert reason(watched) is None
    hanging.join()

    assert watched.can_judge(evm.network)
