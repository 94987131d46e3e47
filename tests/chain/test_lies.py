"""A node that lies, stammers or is not there: nothing is known, and nothing else."""

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.chain.conftest import DEPTH
from tests.chain.node import Script
from x402jobs.adapters import chain as judge
from x402jobs.adapters.chain import RpcChain
from x402jobs.adapters.chain.node import Node
from x402jobs.logs import configure_logs
from x402jobs.ports import Transferred, Unseen, Unused

CREATOR = "0x" + "c1" * 20
SOMEBODY = "0x" + "0b" * 20
PRICE = 10_000
WORDS = "planted words of the node's"
SHORT = 0.4
"""A time limit, in seconds, for whoever does not keep it."""
CHAIN, BLOCK, CALL = "eth_chainId", "eth_getBlockByNumber", "eth_call"
LOGS, RECEIPT = "eth_getLogs", "eth_getTransactionReceipt"
METHODS = (CHAIN, BLOCK, CALL, LOGS, RECEIPT)
WORD = "0x" + "ab" * 32


def standing(now):
    """A clock that tells this time, and whose stop-watch does not run."""
    return SimpleNamespace(now=now, monotonic=lambda: 0.0)


def word(number):
    return f"0x{number:064x}"


@pytest.fixture
def paid(evm):
    """Paid, and deep enough."""
    signed = evm.sign(evm.payer(), CREATOR, PRICE)
    evm.submit(signed)
    evm.mine(DEPTH)
    return signed


@pytest.fixture
def unpaid(evm):
    signed = evm.sign(evm.payer(), CREATOR, PRICE)
    evm.mine(DEPTH)
    return signed


@pytest.fixture
def look(chain, evm):
    return lambda signed: chain.look(signed.authorization, evm.network, evm.time - 60)


def put(**members):
    """An object with other members; None leaves one out."""

    def change(said):
        kept = {name: value for name, value in said.items() if name not in members}
        return kept | {name: value for name, value in members.items() if value is not None}

    return change


def each(change):
    return lambda said: [change(one) for one in said]


def logs(change):
    """A receipt with other logs."""
    return lambda said: said | {"logs": change(said["logs"])}


def at(place, change):
    """A list with another thing at this place."""
    return lambda said: [change(one) if said.index(one) == place else one for one in said]


def topics(*changed):
    """A log with these topics in place of its own, where they are not None."""

    def change(log):
        pairs = zip(changed, log["topics"], strict=True)
        return log | {"topics": [new or old for new, old in pairs]}

    return change


NUMBERS = ["", "0x", "0x00", "0x01", "1", 1, "-0x1", "0xg", None, True, [], "0x" + "f" * 17]

LIES = {
    # about a payment that was made: which method says what instead, and what is made of it
    "another chain": (CHAIN, lambda _: "0x2105", "another_chain"),
    **{f"chain {said!r}": (CHAIN, lambda _, said=said: said, "malformed") for said in NUMBERS},
    "no block": (BLOCK, lambda _: None, "malformed"),
    "a list for a block": (BLOCK, lambda _: [], "malformed"),
    "a block without a number": (BLOCK, put(number=None), "malformed"),
    "a pending block": (BLOCK, lambda said: said | {"number": None, "hash": None}, "malformed"),
    "a block without a hash": (BLOCK, put(hash="0x"), "malformed"),
    "a block without a time": (BLOCK, put(timestamp=None), "malformed"),
    "a time that is a number": (BLOCK, put(timestamp=1_800_000_000), "malformed"),
    "one block for every number": (BLOCK, put(number="0x5"), "malformed"),
    "blocks of next year": (
        BLOCK,
        lambda said: said | {"timestamp": hex(int(said["timestamp"], 16) + 31_536_000)},
        "inconsistent",
    ),
    "blocks whose times run backwards": (
        BLOCK,
        lambda said: said | {"timestamp": hex(1_795_000_000 - int(said["number"], 16))},
        "inconsistent",
    ),
    "no contract": (CALL, lambda _: "0x", "malformed"),
    "a state that is neither": (CALL, lambda _: word(2), "malformed"),
    "a state of JSON's": (CALL, lambda _: True, "malformed"),
    "a state too short": (CALL, lambda _: "0x1", "malformed"),
    "no event": (LOGS, lambda _: [], "not_found"),
    "no list of events": (LOGS, lambda _: None, "malformed"),
    "two events": (LOGS, lambda said: said * 2, "malformed"),
    "words for events": (LOGS, lambda _: [WORDS], "malformed"),
    "a removed event": (LOGS, each(put(removed=True)), "malformed"),
    "a removal in words": (LOGS, each(put(removed="false")), "malformed"),
    "another contract's event": (LOGS, each(put(address=SOMEBODY)), "malformed"),
    "another payer's event": (LOGS, each(topics(None, WORD, None)), "malformed"),
    "another nonce's event": (LOGS, each(topics(None, None, WORD)), "malformed"),
    "an event of another kind": (LOGS, each(topics(judge.TRANSFER, None, None)), "inconsistent"),
    "an event called a cancellation": (
        LOGS,
        each(topics(judge.CANCELED, None, None)),
        "inconsistent",
    ),
    "an event without its nonce": (
        LOGS,
        each(lambda log: log | {"topics": log["topics"][:2]}),
        "malformed",
    ),
    "an event above the depth": (LOGS, each(put(blockNumber="0xffff")), "malformed"),
    "an event of another block": (LOGS, each(put(blockNumber="0x1")), "inconsistent"),
    "an event of another fork": (LOGS, each(put(blockHash=WORD)), "inconsistent"),
    "an event at another place": (LOGS, each(put(logIndex="0x7")), "inconsistent"),
    "an event of no transaction": (LOGS, each(put(transactionHash=None)), "malformed"),
    "an event of a transaction that is none": (LOGS, each(put(transactionHash=WORD)), "malformed"),
    "an event with data": (LOGS, each(put(data=WORD)), "inconsistent"),
    "an event with half a byte": (LOGS, each(put(data="0x1")), "malformed"),
    "no receipt": (RECEIPT, lambda _: None, "malformed"),
    "another transaction's receipt": (RECEIPT, put(transactionHash=WORD), "malformed"),
    "a receipt of a failure": (RECEIPT, put(status="0x0"), "inconsistent"),
    "a receipt of neither": (RECEIPT, put(status="0x2"), "malformed"),
    "a receipt of no status": (RECEIPT, put(status=None), "malformed"),
    "a receipt of another block": (RECEIPT, put(blockNumber="0x1"), "inconsistent"),
    "a receipt of another fork": (RECEIPT, put(blockHash=WORD), "inconsistent"),
    "a receipt without logs": (RECEIPT, put(logs=None), "malformed"),
    "a receipt of no logs": (RECEIPT, logs(lambda _: []), "inconsistent"),
    "a receipt without the use": (RECEIPT, logs(lambda said: said[1:]), "inconsistent"),
    "a receipt without a transfer": (RECEIPT, logs(lambda said: said[:1]), "no_transfer"),
    "a removed transfer": (RECEIPT, logs(at(1, put(removed=True))), "malformed"),
    "another token's transfer": (RECEIPT, logs(at(1, put(address=SOMEBODY))), "no_transfer"),
    "a transfer from another": (
        RECEIPT,
        logs(at(1, topics(None, WORD, None))),
        "no_transfer",
    ),
    "a transfer of nothing": (RECEIPT, logs(at(1, put(data="0x"))), "no_transfer"),
    "a transfer further on": (RECEIPT, logs(at(1, put(logIndex="0x9"))), "no_transfer"),
    "an approval, no transfer": (
        RECEIPT,
        logs(at(1, topics(WORD, None, None))),
        "no_transfer",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_a_payment_leaves_nothing_known(look, node, paid, lie):
    method, change, reason = LIES[lie]
    node.script(method, Script(change))

    assert look(paid) == Unseen(reason)

    node.forget()
    assert isinstance(look(paid), Transferred)


UNPAID_LIES = {
    # about one that nobody has sent
    "used, it says, but cannot show it": (CALL, lambda _: word(1), "not_found"),
    "no contract": (CALL, lambda _: "0x", "malformed"),
    "another chain": (CHAIN, lambda _: "0x2105", "another_chain"),
    "blocks of next year": LIES["blocks of next year"],
}


@pytest.mark.parametrize("lie", UNPAID_LIES)
def test_a_lie_about_what_nobody_has_paid_leaves_nothing_known(look, node, unpaid, lie):
    method, change, reason = UNPAID_LIES[lie]
    node.script(method, Script(change))

    assert look(unpaid) == Unseen(reason)

    node.forget()
    assert isinstance(look(unpaid), Unused)


@pytest.mark.parametrize(
    ("behind", "seen"), [(0, Unused), (judge.BEHIND_SECONDS, Unused), (judge.BEHIND_SECONDS + 1, 0)]
)
def test_a_node_that_has_not_kept_up_does_not_know_what_is_unused(evm, node, unpaid, behind, seen):
    clock = standing(lambda: float(evm.time + behind))
    chain = RpcChain({evm.network.id: node.url}, DEPTH, clock)

    said = chain.look(unpaid.authorization, evm.network, evm.time)

    assert isinstance(said, Unused) if seen else said == Unseen("behind")
    chain.close()


def test_what_it_has_seen_it_has_seen_however_far_behind(evm, node, paid):
    clock = standing(lambda: evm.time + 100_000.0)
    chain = RpcChain({evm.network.id: node.url}, DEPTH, clock)

    assert isinstance(chain.look(paid.authorization, evm.network, evm.time), Transferred)
    chain.close()


@pytest.mark.parametrize(
    ("ahead", "known"), [(judge.AHEAD_SECONDS, True), (judge.AHEAD_SECONDS + 1, False)]
)
def test_a_chain_whose_clock_is_a_little_ahead_is_believed(evm, node, unpaid, ahead, known):
    clock = standing(lambda: float(evm.time - ahead))
    chain = RpcChain({evm.network.id: node.url}, DEPTH, clock)

    said = chain.look(unpaid.authorization, evm.network, evm.time)

    assert isinstance(said, Unused) if known else said == Unseen("inconsistent")
    chain.close()


def test_a_block_called_final_must_not_be_newer_than_the_newest(evm, node, paid):
    """Two nodes behind one URL, one of them late."""
    chain = RpcChain({evm.network.id: node.url}, "finalized", standing(lambda: evm.time))
    newest = iter([2])

    def late(said):
        return said | {"number": hex(int(said["number"], 16) - next(newest, 0) * 4)}

    node.script(BLOCK, Script(late))

    assert chain.look(paid.authorization, evm.network, evm.time) == Unseen("inconsistent")
    chain.close()


# On the wire


def said(**members):
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": "0x1"} | members)


FAULTS = {
    "HTML": Script(body=f"<html>{WORDS}</html>"),
    "HTML that says 502": Script(status=502, body=f"<html>{WORDS}</html>"),
    "nothing": Script(body=""),
    "null": Script(body="null"),
    "a list": Script(body=f"[{said()}]"),
    "half": Script(body=said()[:-5]),
    "another encoding": Script(body="\ufeff" + said()),
    "a depth": Script(body='{"jsonrpc":"2.0","result":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "another JSON-RPC": Script(body=said(jsonrpc="1.0")),
    "an answer to another question": Script(body=said(id=10**9)),
    "an answer to no question": Script(body=said(id=None)),
    "an error": Script(body=said(error={"code": -32000, "message": WORDS})),
    "an error in words": Script(body=said(error=WORDS)),
    "no result": Script(body='{"jsonrpc":"2.0","id":1}'),
    "unauthorized": Script(status=401, body=WORDS),
    "too many requests": Script(status=429, body=WORDS),
    "a refusal that says 200's": Script(status=403),
    "an honest answer that says 500": Script(status=500),
    "a redirect": Script(status=307, headers=(("location", "/elsewhere"),)),
    "three megabytes": Script(body=said(result="0x" + "0" * 3_000_000)),
    "a cut line": Script(cut_at=20),
    "a line cut at once": Script(cut_at=0),
    "a silence": Script(silence=20),
    "drops, each in time": Script(drip=0.05),
}


SLOW = ("a silence", "drops, each in time")


@pytest.mark.parametrize("how", [how for how in FAULTS if how not in SLOW])
def test_an_answer_that_cannot_be_used_is_none(look, node, paid, how):
    for method in METHODS:
        node.forget()
        node.script(method, FAULTS[how])

        assert look(paid) in (Unseen("no_answer"), Unseen("malformed")), method
        assert node.asked[-1] == method

    node.forget()
    assert isinstance(look(paid), Transferred)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", SLOW)
def test_an_answer_that_does_not_come_in_time_is_none(look, node, paid, monkeypatch, how, method):
    monkeypatch.setattr(judge, "LOOK_SECONDS", SHORT)
    node.script(method, FAULTS[how])

    assert look(paid) == Unseen("no_answer")


def test_three_megabytes_are_not_read_to_their_end(node, paid, look):
    node.script(LOGS, Script(change=lambda _: [WORDS] * 200_000))

    assert look(paid) == Unseen("no_answer")


def test_a_redirect_is_not_followed(node, paid, look):
    location = (("location", node.url),)
    node.script(CHAIN, Script(status=307, headers=location))

    assert look(paid) == Unseen("no_answer")
    assert node.asked == [CHAIN]


def test_a_node_that_is_not_there_and_comes_back(node, paid, look):
    node.stop()
    assert look(paid) == Unseen("no_answer")

    node.start()
    assert isinstance(look(paid), Transferred)


def test_the_environments_proxies_are_not_asked(paid, look, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert isinstance(look(paid), Transferred)


def test_a_forked_process_does_not_use_its_parents_connections(chain, paid, look):
    assert isinstance(look(paid), Transferred)
    before = chain._connections.client()

    child = os.fork()
    if child == 0:
        os._exit(0 if chain._connections.client() is not before else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert chain._connections.client() is before


def test_neither_the_nodes_words_nor_its_key_are_told_or_logged(
    evm, node, paid, unpaid, look, caplog, monkeypatch
):
    configure_logs("DEBUG")
    heard = []
    for how in ("HTML", "an error", "unauthorized", "a cut line"):
        for method in METHODS[1:]:
            node.forget()
            node.script(method, FAULTS[how])
            heard.append(look(paid))
    node.stop()
    heard.append(look(unpaid))
    node.start()

    told = caplog.text + repr(heard)
    assert "chain_unanswered" in told
    for secret in (WORDS, "planted-node-key", paid.authorization.nonce[2:], paid.signature.hex()):
        assert secret not in told


def test_a_bug_of_ours_does_not_raise_either_and_is_logged_by_its_kind(
    paid, look, monkeypatch, caplog
):
    configure_logs("DEBUG")

    def broken(*_):
        raise RuntimeError(WORDS)

    monkeypatch.setattr(Node, "block", broken)

    assert look(paid) == Unseen("no_answer")
    assert "RuntimeError" in caplog.text and WORDS not in caplog.text


def test_numbers_no_contract_can_hold_are_looked_for_in_vain(chain, evm, unpaid):
    """A signature may name any number: x402 payloads carry decimal texts."""
    odd = replace(unpaid.authorization, value=10**77, valid_before=10**77)

    assert isinstance(chain.look(odd, evm.network, evm.time), Unused)
