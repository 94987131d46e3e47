"""Which adapter stands behind which port. The only module that knows them all."""

import uuid
from dataclasses import dataclass
from pathlib import Path

from x402jobs import stores
from x402jobs.adapters import claude
from x402jobs.adapters.chain import RpcChain
from x402jobs.adapters.clock import SystemClock
from x402jobs.adapters.facilitator import RemoteFacilitator, X402Facilitator
from x402jobs.adapters.limits import MemoryLimits
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.domain.models import SUCCESSORS, Models
from x402jobs.domain.networks import DEVELOPMENT, Networks
from x402jobs.ports import Chain, Closable, Facilitator
from x402jobs.services import Services
from x402jobs.services.access import Access
from x402jobs.services.agentic import Agentic
from x402jobs.services.audit import Audit
from x402jobs.services.books import Books
from x402jobs.services.caretaker import Caretaker
from x402jobs.services.iam import ApiKeys, Iam, InternalKeys, Newcomers, Sessions
from x402jobs.services.iam.pepper import Pepper
from x402jobs.services.integrations import Integrations
from x402jobs.services.left_rows import LeftRows
from x402jobs.services.mapping import Mapping
from x402jobs.services.paygate import Paygate
from x402jobs.services.pricing import Pricing
from x402jobs.services.recovery import Recovery
from x402jobs.services.resources import Resources
from x402jobs.services.runs import Runs
from x402jobs.services.settlement import Settlement
from x402jobs.services.tasks import Tasks
from x402jobs.services.templates import Templates
from x402jobs.settings import Settings


@dataclass(frozen=True)
class Money:
    """Who moves money, who tells whether it has moved, and where; `held` are files and sockets."""

    facilitator: Facilitator
    chain: Chain | None
    networks: Networks
    held: tuple[Closable, ...] = ()


def build_services(settings: Settings, money: Money | None = None) -> Services:
    """The services over the store and the money of the settings, or over other money.

    Makes the data directory and its keys when there are none. Opens no socket, starts no thread.
    """
    clock, box, store = SystemClock(), stores.secret_box(settings), stores.store(settings)
    money = money or money_of(settings)
    model = claude.Claude(settings)
    shelf, ledger = store.catalogue, store.ledger
    limits, left, worker = MemoryLimits(clock), LeftRows(clock), str(uuid.uuid4())
    identities = store.identities
    pepper = Pepper(identities, box)
    pricing = Pricing(money.facilitator, money.networks, settings.public_url)
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
        access=Access(ledger, runs, money.facilitator, money.networks),
        caretaker=Caretaker(
            ledger=ledger,
            recovery=recovery,
            runs=runs,
            clock=clock,
            worker=worker,
            check_ring=pepper.check,
        ),
        clock=clock,
        held=(model, store.database, *money.held),
    )


def money_of(settings: Settings) -> Money:
    """A facilitator by URL with a chain to judge it, else the development ledger as both."""
    if not settings.facilitator_url:
        ledger = development_ledger(settings.data)
        facilitator = X402Facilitator(ledger.facilitator())
        return Money(facilitator, ledger, Networks((DEVELOPMENT,)), (ledger,))
    remote = RemoteFacilitator(settings.facilitator_url)
    chain = RpcChain(settings.nodes, settings.confirmations) if settings.rpc_urls else None
    return Money(
        X402Facilitator(remote, settle_seconds=settings.settle_seconds),
        chain,
        Networks(settings.networks),
        (remote, chain) if chain is not None else (remote,),
    )


def development_ledger(data: Path) -> DevelopmentLedger:
    """The play money of this data directory."""
    return DevelopmentLedger(data / "development-ledger.sqlite3")


def audit(settings: Settings) -> Audit:
    """The store's ledger, and the play money where all the money is that."""
    play_money = None if settings.facilitator_url else development_ledger(settings.data)
    return stores.audit(settings, play_money)
