"""Which adapter stands behind which port. The only module that knows them all."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from x402jobs import stores
from x402jobs.adapters import claude
from x402jobs.adapters.chain import RpcChain
from x402jobs.adapters.clock import SystemClock
from x402jobs.adapters.facilitator import RemoteFacilitator, X402Facilitator
from x402jobs.adapters.limits.memory import MemoryLimits
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.domain.models import SUCCESSORS, Models
from x402jobs.domain.networks import DEVELOPMENT, Network, Networks
from x402jobs.domain.secret import Secret
from x402jobs.ports import Chain, Clock, Closable, Facilitator, Limits, SecretBox
from x402jobs.services import Services
from x402jobs.services.access import Access
from x402jobs.services.agentic import Agentic
from x402jobs.services.audit import Audit
from x402jobs.services.books import Books
from x402jobs.services.caretaker import Caretaker
from x402jobs.services.iam import ApiKeys, Iam, InternalKeys, Newcomers, Sessions
from x402jobs.services.iam.pepper import Pepper
from x402jobs.services.in_flight import InFlight
from x402jobs.services.integrations import Integrations
from x402jobs.services.left_rows import LeftRows
from x402jobs.services.mapping import Mapping
from x402jobs.services.paygate import Paygate
from x402jobs.services.pricing import Pricing
from x402jobs.services.readiness import (
    Look,
    Readiness,
    look_at_end,
    look_at_limits,
    look_at_ring,
)
from x402jobs.services.recovery import Recovery
from x402jobs.services.resources import Resources
from x402jobs.services.runs import Runs
from x402jobs.services.settlement import Settlement
from x402jobs.services.tasks import Tasks
from x402jobs.services.templates import Templates
from x402jobs.settings import Settings


@dataclass(frozen=True)
class Money:
    """Who moves money, who tells whether it has moved, and where; `held` are files and sockets.

    `checks` say whether those who do can be relied on.
    """

    facilitator: Facilitator
    chain: Chain | None
    networks: Networks
    held: tuple[Closable, ...] = ()
    checks: dict[str, Look] = field(default_factory=dict)
    can_judge: Callable[[Network], bool] = lambda _: True

    def takes(self, network: Network) -> bool:
        """Whether payments can be taken now: verified and settled, and what became of them told."""
        return self.facilitator.offers(network) and self.can_judge(network)


def build_services(settings: Settings, money: Money | None = None) -> Services:
    """The services over the store and the money of the settings, or over other money.

    Makes the data directory and its keys when there are none. Opens no socket, starts no thread.
    """
    clock, box, store = SystemClock(), stores.secret_box(settings), stores.store(settings)
    money = money or money_of(settings)
    model = claude.Claude(settings)
    shelf, ledger = store.catalogue, store.ledger
    limits = limits_of(settings, clock, box)
    left, worker = LeftRows(clock), str(uuid.uuid4())
    identities = store.identities
    pepper = Pepper(identities, box)
    pricing = Pricing(money.takes, money.networks, settings.public_url)
    settlement = Settlement(
        ledger=ledger,
        facilitator=money.facilitator,
        chain=money.chain,
        box=box,
        clock=clock,
        networks=money.networks,
        left=left,
    )
    paygate = Paygate(
        ledger=ledger,
        facilitator=money.facilitator,
        limits=limits,
        in_flight=InFlight(settings.payer_calls, settings.settlements),
        clock=clock,
        worker=worker,
        pricing=pricing,
        settlement=settlement,
        left=left,
        first_content_seconds=settings.first_content_seconds,
    )
    runs, integrations = Runs(ledger, box, clock, left), Integrations(store.keys, box)
    mapping = Mapping(store.tiles, shelf, clock)
    agentic = Agentic(model, Models(claude.retirements(), SUCCESSORS), clock)
    recovery = Recovery(
        ledger=ledger,
        settlement=settlement,
        left=left,
        clock=clock,
        worker=worker,
        opening_seconds=settings.first_content_seconds,
        run_seconds=settings.total_seconds,
    )
    readiness = Readiness(
        {
            "database": store.database.trouble,
            "key_ring": look_at_ring(pepper),
            **money.checks,
            **({"limits": look_at_limits(limits)} if settings.redis_url else {}),
        },
        clock,
    )
    readiness.flag("draining", look_at_end(runs))
    return Services(
        iam=Iam(
            stores.tokens(settings, clock),
            limits,
            shelf,
            sessions=Sessions(identities, pepper, limits, clock),
            api_keys=ApiKeys(identities, pepper, limits, clock),
            internal_keys=InternalKeys(identities, pepper, box, clock),
            newcomers=None if settings.is_embedded else Newcomers(shelf, clock),
        ),
        integrations=integrations,
        templates=Templates(shelf, box),
        resources=Resources(shelf, box, clock, money.networks, settings.public_url),
        mapping=mapping,
        tasks=Tasks(
            mapping=mapping,
            integrations=integrations,
            agentic=agentic,
            runs=runs,
            ledger=ledger,
            limits=limits,
            left=left,
            clock=clock,
            worker=worker,
            shared_key=settings.shared_key,
            first_content_seconds=settings.first_content_seconds,
        ),
        books=Books(ledger, money.networks),
        pricing=pricing,
        paygate=paygate,
        agentic=agentic,
        runs=runs,
        access=Access(ledger, runs, money.facilitator, money.networks, limits),
        caretaker=Caretaker(
            ledger=ledger,
            recovery=recovery,
            runs=runs,
            clock=clock,
            worker=worker,
            check_ring=pepper.check,
        ),
        readiness=readiness,
        clock=clock,
        held=(model, store.database, limits, *money.held),
    )


def limits_of(settings: Settings, clock: Clock, box: SecretBox) -> Limits:
    """Limits in the Redis of the settings, else in this process's memory."""
    if not settings.redis_url:
        return MemoryLimits(settings.limits, clock)
    # Half a second of imports, which nobody without a Redis waits for.
    from x402jobs.adapters.limits.redis import RedisLimits

    return RedisLimits(Secret(settings.redis_url), settings.limits, clock, box)


def money_of(settings: Settings) -> Money:
    """A facilitator by URL with a chain to judge it, else the development ledger as both."""
    if not settings.facilitator_url:
        ledger = development_ledger(settings.data)
        return money_over(X402Facilitator(ledger.facilitator()), ledger, [DEVELOPMENT], ledger)
    remote = RemoteFacilitator(settings.facilitator_url)
    facilitator = X402Facilitator(remote, settle_seconds=settings.settle_seconds)
    chain = RpcChain(settings.nodes, settings.confirmations) if settings.rpc_urls else None
    return money_over(facilitator, chain, settings.networks, remote)


def money_over(
    facilitator: X402Facilitator,
    chain: RpcChain | DevelopmentLedger | None,
    networks: Sequence[Network],
    *held: Closable,
) -> Money:
    """Money on these networks, looked at as what moves it and tells of it can be."""
    money = Money(
        facilitator,
        chain,
        Networks(tuple(networks)),
        held,
        {"facilitator": lambda: facilitator.trouble(networks)},
    )
    if not isinstance(chain, RpcChain):
        return money
    return replace(
        money,
        held=(*held, chain),
        checks={**money.checks, "chain": chain.trouble},
        can_judge=chain.can_judge,
    )


def development_ledger(data: Path) -> DevelopmentLedger:
    """The play money of this data directory."""
    return DevelopmentLedger(data / "development-ledger.sqlite3")


def audit(settings: Settings) -> Audit:
    """The store's ledger, and the play money where all the money is that."""
    play_money = None if settings.facilitator_url else development_ledger(settings.data)
    return stores.audit(settings, play_money)
