"""The chain as judge: what became of an authorization, as a node of our choice tells it.

Plain JSON-RPC on bounded connections: five methods are all that it takes.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import structlog

from x402jobs.adapters.bounded_http import Connections, within
from x402jobs.adapters.chain.node import Declined, Node
from x402jobs.adapters.chain.words import Block, Log, Malformed, Receipt
from x402jobs.adapters.clock import SystemClock
from x402jobs.domain.networks import Network
from x402jobs.domain.payment import Authorization
from x402jobs.ports import (
    Canceled,
    Clock,
    Doubt,
    Seen,
    SpentElsewhere,
    Transferred,
    Trouble,
    Unseen,
    Unused,
)
from x402jobs.settings import Depth

log = structlog.get_logger(__name__)

CONFIRMATIONS: Mapping[str, int] = {
    # One sequencer makes Base's blocks and takes none back while it keeps running: some seconds.
    "eip155:8453": 3,
    "eip155:84532": 3,
    # Milestones make Polygon's blocks final a few blocks later; before, one or two do get replaced.
    "eip155:137": 8,
    # An accepted block is final. One more, for answers that come from two nodes.
    "eip155:43114": 1,
}
"""What a paying caller waits for, so no deeper than it has to be. A chain of one's own has none."""

LOOK_SECONDS = 10.0
"""Limit on a whole look, all its questions put together."""
WATCH_SECONDS = 5.0
"""Limit on asking one node whether it can be relied on."""
WELL_SECONDS = 15.0
"""So long a good answer to that counts: providers charge for each question."""
SLOW_SECONDS = 2.0
"""Unless somebody who looks for a payment has been waiting for longer."""
LARGEST_ANSWER = 2 * 1024 * 1024
"""In bytes. A full block lists some thousands of transactions, 69 bytes each."""

EARLIER_SECONDS = 180
"""So much before it came to us a use is looked for: a quote asks for a signature that lives 120 s,
and the chain's clock need not be ours."""
AHEAD_SECONDS = 60
"""A block from further in the future is nobody's."""
BEHIND_SECONDS = 300
"""A node whose newest block is older has not kept up: what it has not seen may well have been."""

PAGE = 2000
LEAST_PAGE = 5
"""Blocks whose logs are asked for at once. Some providers allow 10 000, some of their plans 5."""
FIRST_STEP = 256

USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
CANCELED = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81"
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""Topics of `AuthorizationUsed(address,bytes32)`, `AuthorizationCanceled(address,bytes32)` and
`Transfer(address,address,uint256)`."""
WORD_CHARACTERS = 2 + 64

UNRELIABLE: frozenset[Doubt] = frozenset({"another_chain", "behind", "inconsistent"})
"""Doubts that are about the node, and not about one payment."""

_CLOCK = SystemClock()


class RpcChain:
    """ports.Chain over one node for each network, by its CAIP-2 name.

    Building this does no I/O. `depth` goes for all networks; without it each has its own.
    """

    def __init__(
        self, urls: Mapping[str, str], depth: Depth | None = None, clock: Clock = _CLOCK
    ) -> None:
        self._connections = Connections(LARGEST_ANSWER)
        self._nodes = {name: Node(url, self._connections) for name, url in urls.items()}
        self._depth = depth
        self._clock = clock
        self._well_until: float | None = None
        self._in_trouble: frozenset[str] = frozenset()
        self._numbers, self._newest = count(1), 0
        self._looks: dict[object, float] = {}
        """When those began that are not over."""

    def can_judge(self, network: Network) -> bool:
        """Whether the network's node was well when `trouble` last asked it.

        Where it was not, nobody should be asked to pay: what became of it could not be told.
        """
        return network.id not in self._in_trouble

    def trouble(self) -> Trouble | None:
        """Why some node cannot be relied on now; None where each of them can.

        For one who comes every few seconds: asks a node that has been well at most every
        `WELL_SECONDS`, unless somebody who needed one has met with trouble since. Never raises.
        """
        now = self._clock.monotonic()
        is_slow = any(now - began > SLOW_SECONDS for began in tuple(self._looks.values()))
        if self._well_until is not None and now < self._well_until and not is_slow:
            return None
        self._well_until, number = None, next(self._numbers)
        # Side by side: a node must not be in trouble because another one is silent.
        with ThreadPoolExecutor(len(self._nodes)) as askers:
            said = askers.map(self._trouble_of, self._nodes.keys(), self._nodes.values())
            found = dict(zip(self._nodes, said, strict=True))
        troubles = {name: trouble for name, trouble in found.items() if trouble is not None}
        # What hung through an outage may come back after who was asked when it was over.
        if number >= self._newest:
            self._newest, self._in_trouble = number, frozenset(troubles)
        if not troubles:
            self._well_until = now + WELL_SECONDS
        return next(iter(troubles.values()), None)

    def _trouble_of(self, name: str, node: Node) -> Trouble | None:
        """The name is CAIP-2's, which ends in the chain's id."""
        chain_id = int(name.rpartition(":")[2])
        try:
            with within(WATCH_SECONDS):
                if not node.is_of(chain_id):
                    return Trouble("another_chain", f"The node for {name} is one of another chain.")
                age = self._clock.now() - node.block("latest").time
        except Malformed:
            return Trouble("malformed", f"What answers for the node of {name} is no node.")
        except Exception:
            return Trouble("no_answer", f"The node for {name} gives no answer that can be used.")
        if age > BEHIND_SECONDS:
            return Trouble(
                "behind", f"The newest block of the node for {name} is {age:.0f} seconds old."
            )
        if age < -AHEAD_SECONDS:
            return Trouble(
                "ahead", f"The newest block for {name} is from the future: is our clock right?"
            )
        return None

    def look(self, signed: Authorization, network: Network, since: float) -> Seen:
        reason: Doubt = "no_answer"
        this = object()
        self._looks[this] = self._clock.monotonic()
        try:
            with within(LOOK_SECONDS):
                return self._look(signed, network, since)
        except _Doubtful as doubt:
            if doubt.reason in UNRELIABLE:
                self._well_until = None
            return Unseen(doubt.reason)
        except Malformed as error:
            kind, reason = type(error).__name__, "malformed"
        except Exception as error:
            kind = type(error).__name__
        finally:
            del self._looks[this]
        self._well_until = None
        # Out here, where nothing hangs on the error: its text can quote the URL, and that a key.
        log.warning("chain_unanswered", reason=reason, exception_type=kind)
        return Unseen(reason)

    def close(self) -> None:
        """Hang up; the next look makes new connections."""
        self._connections.close()

    def _look(self, signed: Authorization, network: Network, since: float) -> Seen:
        node = self._nodes.get(network.id)
        if node is None or not node.is_of(network.chain_id):
            raise _Doubtful("another_chain")
        head = node.block("latest")
        if head.time > self._clock.now() + AHEAD_SECONDS:
            raise _Doubtful("inconsistent")
        case = _Case(node, signed, network.token.lower())
        deep = self._deep(node, network, head)
        if case.is_used(deep):
            return case.outcome(case.found(_first(node, deep, since - EARLIER_SECONDS), deep))
        if case.is_used(head):
            raise _Doubtful("shallow")
        if head.time < self._clock.now() - BEHIND_SECONDS:
            raise _Doubtful("behind")
        return Unused(at=deep.time)

    def _deep(self, node: Node, network: Network, head: Block) -> Block:
        """The newest block that counts."""
        depth = CONFIRMATIONS.get(network.id, 0) if self._depth is None else self._depth
        if depth == 0:
            return head
        if isinstance(depth, int):
            deep = node.block(max(head.number - depth, 0))
        else:
            deep = node.block(depth)
        if deep.number > head.number or deep.time > head.time:
            raise _Doubtful("inconsistent")
        return deep


class _Doubtful(Exception):
    """Nothing can be said, and nothing is wrong with how it was asked."""

    def __init__(self, reason: Doubt) -> None:
        super().__init__(reason)
        self.reason: Doubt = reason


class _Case:
    """One authorization before one node."""

    def __init__(self, node: Node, signed: Authorization, token: str) -> None:
        self._node = node
        self._signed = signed
        self._token = token

    def is_used(self, block: Block) -> bool:
        return self._node.is_used(self._token, self._signed.payer, self._signed.nonce, block)

    def found(self, first: int, deep: Block) -> Log:
        """The event by which the nonce was used up or cancelled, somewhere from `first` to `deep`.

        Oldest first, since a use mostly comes right after the payment did. Providers cap the blocks
        of a question, each at another number and in other words: a declined page is cut smaller.
        """
        signed, page = self._signed, PAGE
        topics: list[str | list[str]] = [[USED, CANCELED], _word(signed.payer), signed.nonce]
        while first <= deep.number:
            last = min(first + page - 1, deep.number)
            try:
                found = self._node.logs(self._token, topics, first, last)
            except Declined:
                if last - first < LEAST_PAGE:
                    raise
                page = max((last - first + 1) // 4, LEAST_PAGE)
                continue
            for each in found:
                if len(found) > 1 or each.topics[1:] != (topics[1], topics[2]):
                    raise Malformed
                return each
            first = last + 1
        raise _Doubtful("not_found")

    def outcome(self, event: Log) -> Transferred | Canceled | SpentElsewhere:
        """What the event says, once its transaction's receipt says the same."""
        signed, receipt = self._signed, self._node.receipt(event.transaction)
        if not receipt.succeeded or event not in receipt.logs:
            raise _Doubtful("inconsistent")
        if (receipt.block, receipt.block_hash) != (event.block, event.block_hash):
            raise _Doubtful("inconsistent")
        match event.topics[0]:
            case topic if topic == CANCELED:
                return Canceled()
            case topic if topic == USED:
                transfer = self._transfer(event, receipt)
                if (transfer.topics[2], transfer.data) != (_word(signed.to), _amount(signed)):
                    return SpentElsewhere()
                return Transferred(event.transaction, transfer.index)
        raise Malformed

    def _transfer(self, used: Log, receipt: Receipt) -> Log:
        """The transfer that this use made: Circle's token says it in the very next event.

        One transaction may use several authorizations, of equal payers, payees and amounts even.
        """
        for each in receipt.logs:
            is_next = (each.index, each.address) == (used.index + 1, self._token)
            names = (*each.topics[:2], len(each.topics), len(each.data))
            if is_next and names == (TRANSFER, used.topics[1], 3, WORD_CHARACTERS):
                return each
        raise _Doubtful("no_transfer")


def _first(node: Node, deep: Block, time: float) -> int:
    """The number of a block not younger than `time`, found in doubling steps back from `deep`."""
    step, before = FIRST_STEP, deep
    while before.time > time and before.number > 0:
        before, after = node.block(max(deep.number - step, 0)), before
        if before.time > after.time:
            raise _Doubtful("inconsistent")
        step *= 2
    return before.number


def _word(address: str) -> str:
    return f"0x{address[2:]:0>64}"


def _amount(signed: Authorization) -> str:
    return f"0x{signed.value:064x}"
