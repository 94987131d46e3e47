"""When a facilitator may be asked, when it counts as down, and what brings it back."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from prometheus_client import REGISTRY
from x402.mechanisms.evm import constants as reasons
from x402.schemas import SupportedKind, VerifyResponse

from tests.adapters.test_facilitator import (
    ASKED,
    Scripted,
    failure,
    new_wallet,
    pay,
    success,
    supported,
)
from tests.fakes import FakeClock
from x402jobs.adapters.facilitator import X402Facilitator
from x402jobs.domain.errors import FacilitatorUnavailable
from x402jobs.domain.networks import DEVELOPMENT, NETWORKS
from x402jobs.logs import configure_logs
from x402jobs.ports import Refused, Settled, Unknown, Verified

BASE = NETWORKS["eip155:8453"]
PAYMENT = pay(new_wallet())
VALID = VerifyResponse(is_valid=True)
INVALID = VerifyResponse(is_valid=False, invalid_reason=reasons.ERR_INSUFFICIENT_BALANCE)
AWAY = ConnectionError("nobody answers")


class Peer:
    """A facilitator whose client is scripted and whose time passes when told to."""

    def __init__(self, *supported_says: Any, verify_says: Any = VALID) -> None:
        self.client = Scripted(verify_says=verify_says, supported_says=list(supported_says))
        self.clock = FakeClock()
        self.facilitator = X402Facilitator(self.client, clock=self.clock)

    def offers(self) -> bool:
        return self.facilitator.offers(DEVELOPMENT)

    def verify(self) -> Verified | Refused | None:
        """None for unavailable."""
        try:
            return self.facilitator.verify(PAYMENT, ASKED)
        except FacilitatorUnavailable:
            return None

    def settle(self, says: Any) -> Settled | Refused | Unknown:
        self.client.settle_says = [says]
        return self.facilitator.settle(PAYMENT, ASKED)

    def goes_down(self) -> None:
        """Long after it was asked what it supports."""
        assert self.offers()
        self.clock.advance(60)
        self.client.verify_says = AWAY
        assert [self.verify() for _ in range(3)] == [None] * 3


def kind(network: str = DEVELOPMENT.id, version: int = 2, scheme: str = "exact") -> SupportedKind:
    return SupportedKind(x402_version=version, scheme=scheme, network=network)


@pytest.mark.parametrize(
    ("kinds", "offered"),
    [
        ([kind()], True),
        ([kind(BASE.id), kind()], True),
        ([kind(), kind()], True),
        ([], False),
        ([kind(BASE.id)], False),
        ([kind(version=1)], False),
        ([kind(scheme="upto")], False),
        ([kind("eip155:*")], False),
    ],
)
def test_a_network_is_offered_when_the_facilitator_names_it_for_what_we_ask(kinds, offered):
    peer = Peer(supported(*kinds))

    assert peer.offers() is offered
    assert (peer.verify() == Verified()) is offered


def test_what_is_supported_is_asked_once():
    peer = Peer()

    assert [peer.offers() for _ in range(5)] == [True] * 5
    peer.clock.advance(3600)
    assert peer.verify() == Verified()

    assert peer.client.supported_asked == 1


@pytest.mark.parametrize("answer", [AWAY, None, supported(), supported(kind(BASE.id))])
def test_nobody_is_asked_again_within_five_seconds(answer):
    peer = Peer(answer)

    assert [peer.offers() for _ in range(5)] == [False] * 5
    peer.clock.advance(4.9)
    assert (peer.offers(), peer.verify(), peer.client.supported_asked) == (False, None, 1)

    peer.clock.advance(0.1)

    assert (peer.offers(), peer.verify(), peer.client.supported_asked) == (True, Verified(), 2)


def test_a_facilitator_that_serves_another_network_serves_that_one():
    peer = Peer(supported(kind(BASE.id)))

    assert not peer.offers()
    assert peer.facilitator.offers(BASE)


FAILED: dict[str, Any] = {
    "verify": lambda peer: peer.verify(),
    "settle": lambda peer: peer.settle(AWAY),
    "settle without a transaction": lambda peer: peer.settle(success("")),
    "settle of another payment": lambda peer: peer.settle(success(payer="0x" + "dd" * 20)),
}


@pytest.mark.parametrize("how", FAILED)
def test_after_three_failures_in_a_row_it_counts_as_down(how):
    peer = Peer(verify_says=AWAY)
    assert peer.offers()

    offered = []
    for _ in range(3):
        FAILED[how](peer)
        offered.append(peer.offers())

    assert offered == [True, True, False]


def test_while_it_is_down_nobody_waits_for_a_verdict():
    peer = Peer()
    peer.goes_down()
    peer.client.verify_says = VALID
    asked = len(peer.client.asked)

    assert [peer.verify() for _ in range(3)] == [None] * 3
    assert len(peer.client.asked) == asked


def test_while_it_is_down_what_was_verified_is_settled_all_the_same():
    peer = Peer()
    assert peer.verify() == Verified()
    peer.goes_down()

    assert isinstance(peer.settle(success()), Settled)
    assert peer.settle(AWAY) == Unknown("no_answer")
    assert not peer.offers()


def test_a_settlement_is_asked_about_before_anybody_has_asked_what_is_supported():
    peer = Peer(AWAY)

    assert isinstance(peer.settle(success()), Settled)
    assert peer.client.supported_asked == 0


@pytest.mark.parametrize(
    "answer", [VALID, INVALID], ids=["a verdict", "a definite refusal is no failure"]
)
def test_an_answer_between_them_parts_the_failures(answer):
    peer = Peer()
    for says in (AWAY, AWAY, answer, AWAY, AWAY):
        peer.client.verify_says = says
        peer.verify()

    assert peer.offers()


@pytest.mark.parametrize(
    "reason", [reasons.ERR_INSUFFICIENT_BALANCE, reasons.ERR_TRANSACTION_FAILED]
)
def test_a_refusal_to_settle_is_no_failure(reason):
    peer = Peer()
    for _ in range(5):
        peer.settle(failure(reason))

    assert peer.offers()


def test_it_is_back_when_it_says_what_it_supports_and_is_asked_every_five_seconds():
    peer = Peer()
    peer.goes_down()
    peer.client.verify_says = VALID
    peer.client.supported_says = [AWAY, AWAY]

    offered = []
    for _ in range(20):
        offered.append(peer.offers())
        peer.clock.advance(1)

    assert offered == [False] * 15 + [True] * 5
    assert peer.client.supported_asked == 1 + 3
    assert peer.verify() == Verified()


def test_it_is_back_with_three_failures_to_spare():
    peer = Peer()
    peer.goes_down()
    peer.clock.advance(5)
    assert peer.offers()

    assert (peer.verify(), peer.verify(), peer.offers()) == (None, None, True)


def test_back_without_our_network_it_is_not_asked_to_verify():
    peer = Peer()
    peer.goes_down()
    peer.client.verify_says = VALID
    peer.client.supported_says = [supported(kind(BASE.id))]
    peer.clock.advance(5)

    assert (peer.offers(), peer.verify()) == (False, None)


def test_who_comes_together_first_asks_once_and_is_told_together():
    answering = Event()

    class Slow(Scripted):
        def get_supported(self) -> Any:
            assert answering.wait(20)
            return super().get_supported()

    client = Slow()
    facilitator = X402Facilitator(client)
    with ThreadPoolExecutor(10) as pool:
        told = [pool.submit(facilitator.offers, DEVELOPMENT) for _ in range(10)]
        answering.set()

    assert [each.result() for each in told] == [True] * 10
    assert client.supported_asked == 1


def test_while_somebody_asks_whether_it_is_back_nobody_else_waits():
    asking, answering = Event(), Event()

    class Slow(Scripted):
        def get_supported(self) -> Any:
            if self.supported_asked:
                asking.set()
                assert answering.wait(20)
            return super().get_supported()

    peer = Peer()
    peer.client = Slow(verify_says=VALID)
    peer.facilitator = X402Facilitator(peer.client, clock=peer.clock)
    peer.goes_down()
    peer.clock.advance(5)
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(peer.offers)
        assert asking.wait(20)

        assert [peer.offers() for _ in range(3)] == [False] * 3
        answering.set()
        assert told.result() is True

    assert peer.offers()


def test_going_down_and_coming_back_are_each_logged_once(caplog):
    configure_logs("INFO")
    peer = Peer()
    peer.goes_down()
    peer.settle(AWAY)
    peer.clock.advance(5)
    peer.client.verify_says = VALID
    assert [peer.verify(), peer.verify()] == [Verified()] * 2

    assert [caplog.text.count(f"facilitator_{way}") for way in ("down", "back")] == [1, 1]


def test_whether_it_is_down_is_a_figure() -> None:
    def is_down() -> float | None:
        return REGISTRY.get_sample_value("x402jobs_facilitator_down")

    peer = Peer()
    peer.goes_down()
    down = is_down()
    peer.clock.advance(5)
    peer.client.verify_says = VALID
    peer.verify()

    assert (down, is_down()) == (1, 0)


def watched(peer: Peer) -> str | None:
    """What who watches in the background is told is wrong."""
    trouble = peer.facilitator.trouble([DEVELOPMENT])
    return trouble.reason if trouble is not None else None


def test_a_facilitator_that_is_well_is_asked_no_more_often_than_by_those_who_come() -> None:
    peer = Peer()
    for _ in range(5):
        assert watched(peer) is None
        peer.clock.advance(2)

    assert peer.client.supported_asked == 2


def test_who_does_not_answer_is_asked_at_every_look_and_is_down_after_three() -> None:
    peer = Peer(supported(kind()), AWAY, AWAY, AWAY, supported(kind()))
    assert (watched(peer), peer.offers()) == (None, True)
    peer.clock.advance(6)

    looks = [(watched(peer), peer.offers()) for _ in range(3)]
    back = watched(peer), peer.offers()

    assert looks == [("no_answer", True), ("no_answer", True), ("no_answer", False)]
    assert back == (None, True)


def test_while_somebody_watches_nobody_who_wants_to_pay_asks() -> None:
    peer = Peer(supported(kind()), AWAY, AWAY, AWAY, AWAY)
    assert watched(peer) is None
    for _ in range(4):
        peer.clock.advance(5.5)
        assert watched(peer) == "no_answer"
    asked = peer.client.supported_asked

    peer.clock.advance(2)

    assert (peer.offers(), peer.client.supported_asked) == (False, asked)


def test_who_says_what_it_supports_and_verifies_nothing_goes_down_all_the_same() -> None:
    peer = Peer()
    assert watched(peer) is None
    peer.client.verify_says = AWAY

    for _ in range(2):
        assert peer.verify() is None
        peer.clock.advance(6)
        assert watched(peer) is None
    assert peer.verify() is None

    assert not peer.offers()


def test_a_network_that_is_not_supported_is_named() -> None:
    peer = Peer(supported(kind()))

    trouble = peer.facilitator.trouble([DEVELOPMENT, BASE])

    assert trouble is not None
    assert (trouble.reason, BASE.id in trouble.sentence) == ("not_supported", True)
    assert DEVELOPMENT.id not in trouble.sentence
