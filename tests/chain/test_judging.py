"""What only a real chain can do to an authorization, and how deep it has to be."""

import pytest
from eth_utils import keccak

from tests.chain.conftest import DEPTH, ChainClock, settle
from tests.chain.evm import Signed
from tests.chain.node import FINALIZED, SAFE
from x402jobs.adapters import chain as judge
from x402jobs.adapters.chain import RpcChain
from x402jobs.adapters.facilitator import X402Facilitator
from x402jobs.domain.networks import NETWORKS
from x402jobs.ports import Canceled, SpentElsewhere, Transferred, Unseen, Unused

CREATOR = "0x" + "c1" * 20
PRICE = 10_000


@pytest.fixture
def signed(evm):
    """An authorization to the creator, not sent yet."""
    return evm.sign(evm.payer(), CREATOR, PRICE)


@pytest.fixture
def look(chain, evm):
    def look(signed: Signed, since=None):
        since = evm.time - 60 if since is None else since
        return chain.look(signed.authorization, evm.network, since)

    return look


@pytest.fixture
def chain_at(evm, node):
    """The chain, so or so deep; or with other urls."""
    made = []

    def chain_at(depth=None, urls=None):
        urls = urls or {evm.network.id: node.url}
        made.append(RpcChain(urls, depth, ChainClock(evm)))
        return made[-1]

    yield chain_at
    for each in made:
        each.close()


def named(evm, transaction, event):
    """The places of an event in a transaction alone in its block."""
    topic = "0x" + keccak(text=event).hex()
    logs = evm.receipt(transaction)["logs"]
    return [each["log_index"] for each in logs if each["topics"][0] == topic]


# What becomes of it


def test_the_place_of_a_transfer_is_that_of_its_event(evm, look, signed):
    transaction = settle(X402Facilitator(evm.facilitator(), [evm.network]), signed, evm.network)
    evm.mine(DEPTH)

    (place,) = named(evm, transaction, "Transfer(address,address,uint256)")
    assert look(signed) == Transferred(transaction, place)
    assert evm.balance(CREATOR) == PRICE


def test_one_that_its_payer_takes_back_will_never_be_used(evm, look):
    payer = evm.payer()
    signed = evm.sign(payer, CREATOR, PRICE)
    evm.cancel(payer, signed.authorization.nonce)
    evm.mine(DEPTH)

    assert look(signed) == Canceled()
    assert evm.receipt(evm.submit(signed))["status"] == 0


def test_one_that_the_payee_fetches_is_paid(evm, look):
    payee = evm.stranger
    signed = evm.sign(evm.payer(), payee, PRICE, kind="ReceiveWithAuthorization")
    transaction = evm.send("receiveWithAuthorization", *signed.arguments, by=payee)
    evm.mine(DEPTH)

    seen = look(signed)

    assert isinstance(seen, Transferred) and seen.transaction == transaction


def test_two_in_one_transaction_each_have_their_place(evm, look):
    payer = evm.payer()
    both = [evm.sign(payer, CREATOR, PRICE) for _ in range(2)]
    transaction = evm.submit_together(*both)
    evm.mine(DEPTH)

    places = named(evm, transaction, "Transfer(address,address,uint256)")

    assert len(set(places)) == 2
    assert [look(each) for each in both] == [Transferred(transaction, place) for place in places]


def test_a_transfer_beside_it_in_the_transaction_does_not_pay_for_it(evm, look):
    """The nonce paid somebody else; an equal amount to us came from another authorization."""
    payer = evm.payer()
    ours = evm.sign(payer, CREATOR, PRICE)
    elsewhere = evm.sign(payer, evm.stranger, PRICE, nonce=ours.authorization.nonce)
    beside = evm.sign(payer, CREATOR, PRICE)
    transaction = evm.submit_together(elsewhere, beside)
    evm.mine(DEPTH)

    assert look(ours) == SpentElsewhere()
    assert look(beside) == Transferred(transaction, 3)


def test_two_in_one_block_are_counted_through_the_block(evm, look):
    payer = evm.payer()
    both = [evm.sign(payer, CREATOR, PRICE) for _ in range(2)]
    evm.hold()
    sent = [evm.submit(*each) for each in zip(both, (evm.owner, evm.stranger), strict=True)]
    evm.mine(1 + DEPTH)

    seen = [look(each) for each in both]

    assert {each.transaction for each in seen} == set(sent)
    assert {each.log_index for each in seen} == {1, 3}


@pytest.mark.parametrize("how", ["blacklisted", "paused", "forged", "not yet valid"])
def test_a_transaction_that_failed_has_not_used_it(evm, look, how):
    payer = evm.payer()
    window = {"valid_after": evm.time + 5_000} if how == "not yet valid" else {}
    signed = evm.sign(payer, CREATOR, PRICE, **window)
    if how == "blacklisted":
        evm.send("blacklist", evm.web3.to_checksum_address(payer.address))
    if how == "paused":
        evm.send("pause")
    sent = Signed(signed.authorization, bytes(65)) if how == "forged" else signed

    transaction = evm.submit(sent)
    evm.mine(DEPTH)

    assert evm.receipt(transaction)["status"] == 0
    assert isinstance(look(signed), Unused)


# Depth


def test_what_is_not_deep_enough_is_not_seen_yet(evm, look, signed):
    transaction = evm.submit(signed)
    seen = []
    for _ in range(DEPTH):
        seen.append(look(signed))
        evm.mine()

    assert seen == [Unseen("shallow")] * DEPTH
    assert look(signed) == Transferred(transaction, 1)


@pytest.mark.parametrize(
    ("depth", "below"), [(0, 0), (1, 1), (5, 5), ("safe", SAFE), ("finalized", FINALIZED)]
)
def test_how_deep_is_a_number_or_the_nodes_word(evm, chain_at, signed, depth, below):
    chain = chain_at(depth)
    evm.submit(signed)
    seen = []
    for _ in range(below + 1):
        seen.append(chain.look(signed.authorization, evm.network, evm.time))
        evm.mine()

    assert [type(each) for each in seen] == [Unseen] * below + [Transferred]


def test_unused_is_told_as_of_the_block_that_counts(evm, look, signed):
    deep = evm.tester.get_block_by_number(evm.number - DEPTH)

    assert look(signed) == Unused(at=deep["timestamp"])


def test_the_last_moment_counts_only_once_it_is_deep(evm, look):
    """Up to the depth the chain may still decide otherwise about its last blocks."""
    signed = evm.sign(evm.payer(), CREATOR, PRICE, valid_before=evm.time + 100)
    evm.let_pass(signed.authorization.valid_before)
    assert look(signed).at < signed.authorization.valid_before

    evm.mine(DEPTH)

    assert look(signed).at > signed.authorization.valid_before


def test_a_reorganisation_that_is_not_deep_does_not_fool_anybody(evm, look, signed):
    before = evm.tester.take_snapshot()
    evm.submit(signed)
    evm.mine(DEPTH - 1)
    assert look(signed) == Unseen("shallow")

    evm.tester.revert_to_snapshot(before)
    evm.mine(2 * DEPTH)

    assert isinstance(look(signed), Unused)


def test_a_payment_that_a_reorganisation_has_moved_is_found_where_it_is_now(evm, look, signed):
    before = evm.tester.take_snapshot()
    evm.submit(signed)
    evm.tester.revert_to_snapshot(before)
    evm.mine(3)
    transaction = evm.submit(signed, by=evm.stranger)
    evm.mine(DEPTH)

    assert look(signed) == Transferred(transaction, 1)


def test_every_network_that_real_money_moves_on_has_a_depth_of_its_own():
    real = {network.id for network in NETWORKS.values() if not network.development}

    assert set(judge.CONFIRMATIONS) == real
    assert all(depth > 0 for depth in judge.CONFIRMATIONS.values())


def test_without_a_setting_the_networks_own_depth_counts(evm, chain_at, signed, monkeypatch):
    monkeypatch.setattr(judge, "CONFIRMATIONS", {evm.network.id: 4})
    chain = chain_at()
    evm.submit(signed)
    evm.mine(3)
    assert chain.look(signed.authorization, evm.network, evm.time) == Unseen("shallow")

    evm.mine()

    assert isinstance(chain.look(signed.authorization, evm.network, evm.time), Transferred)


# How far back


def test_a_use_from_shortly_before_it_came_to_us_is_found(evm, look, signed):
    evm.submit(signed)
    used = evm.time
    evm.mine(40)

    assert isinstance(look(signed, since=used + judge.EARLIER_SECONDS - 1), Transferred)


def test_a_use_from_long_before_it_came_to_us_is_not_looked_for(evm, look, node, signed):
    """Nor is it taken for unused: a facilitator would have refused it, so somebody has to look."""
    evm.submit(signed)
    evm.mine(judge.FIRST_STEP)
    evm.let_pass(evm.time + 1_000)
    evm.mine(judge.FIRST_STEP + DEPTH)

    assert look(signed, since=evm.time - judge.FIRST_STEP) == Unseen("not_found")


@pytest.mark.parametrize("blocks", [1, 3, 255, 256, 257, 600])
def test_it_is_found_however_many_blocks_ago(evm, look, signed, blocks):
    came = evm.time
    evm.submit(signed)
    evm.mine(blocks + DEPTH)

    assert isinstance(look(signed, since=came), Transferred)


@pytest.mark.parametrize("largest", [2000, 100, 10, 5])
def test_a_node_that_answers_for_few_blocks_at_once_is_asked_often(
    evm, look, node, signed, largest
):
    came = evm.time
    evm.mine(150)
    evm.submit(signed)
    evm.mine(60)
    node.largest_page = largest

    assert isinstance(look(signed, since=came), Transferred)


def test_a_node_that_answers_for_no_blocks_at_all_is_asked_a_few_times(evm, look, node, signed):
    evm.submit(signed)
    evm.mine(100)
    node.largest_page = 0

    assert look(signed) == Unseen("no_answer")
    assert 1 < node.asked.count("eth_getLogs") < 8


def test_on_a_chain_younger_than_its_depth_nothing_counts(evm, chain_at, signed):
    evm.submit(signed)

    seen = chain_at(1_000).look(signed.authorization, evm.network, evm.time)

    assert seen == Unseen("malformed")  # at its beginning there was no token


# Asking


def test_the_node_is_asked_which_chain_it_is_of_once(evm, look, node, signed):
    for _ in range(3):
        look(signed)

    assert node.asked.count("eth_chainId") == 1


def test_a_usual_look_is_a_few_questions(evm, look, node, signed):
    evm.submit(signed)
    evm.mine(DEPTH)
    look(signed)
    node.asked.clear()

    assert isinstance(look(signed), Transferred)
    assert len(node.asked) <= 7


def test_each_network_has_its_own_node(evm, chain_at, signed):
    elsewhere = "http://127.0.0.1:9/"
    chain = chain_at(0, {"eip155:8453": elsewhere})

    assert chain.look(signed.authorization, evm.network, 0) == Unseen("another_chain")
    base = NETWORKS["eip155:8453"]
    assert chain.look(signed.authorization, base, 0) == Unseen("no_answer")


def test_building_one_asks_nobody(node, chain_at):
    chain_at()

    assert node.asked == []


def test_it_can_be_used_again_after_closing(evm, chain, look, signed):
    assert isinstance(look(signed), Unused)
    chain.close()
    chain.close()

    assert isinstance(look(signed), Unused)


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("USED", "AuthorizationUsed(address,bytes32)"),
        ("CANCELED", "AuthorizationCanceled(address,bytes32)"),
        ("TRANSFER", "Transfer(address,address,uint256)"),
    ],
)
def test_the_events_have_their_names(name, signature):
    assert getattr(judge, name) == "0x" + keccak(text=signature).hex()
