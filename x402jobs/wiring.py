"""Which adapter stands behind which port. The only module that knows them all."""

import uuid
from pathlib import Path

from x402jobs.adapters import claude
from x402jobs.adapters.clock import SystemClock
from x402jobs.adapters.facilitator import X402Facilitator
from x402jobs.adapters.limits import MemoryLimits
from x402jobs.adapters.secret_box import KeyRing, RingSecretBox
from x402jobs.adapters.sqlite import SqliteCatalogue, SqliteKeys, SqliteLedger, embedded_store
from x402jobs.adapters.tokens import LocalTokens
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.domain.models import SUCCESSORS, Models
from x402jobs.domain.networks import DEVELOPMENT, Networks
from x402jobs.ports import Facilitator
from x402jobs.services import Services
from x402jobs.services.agentic import Agentic
from x402jobs.services.iam import Iam
from x402jobs.services.integrations import Integrations
from x402jobs.services.paygate import Paygate
from x402jobs.services.runs import Runs
from x402jobs.services.templates import Templates
from x402jobs.settings import Settings, SettingsError


def build_services(
    settings: Settings,
    facilitator: Facilitator | None = None,
    networks: Networks | None = None,
) -> Services:
    """The services over the embedded store and the development ledger, or other peers.

    Makes the data directory and its keys when there are none. Opens no socket, starts no thread.
    """
    clock = SystemClock()
    box = RingSecretBox(key_ring(settings))
    database = embedded_store(settings.data)
    money = development_ledger(settings.data)
    model = claude.Claude(settings)
    ledger = SqliteLedger(database)
    limits = MemoryLimits(clock)
    paygate = Paygate(
        ledger=ledger,
        facilitator=facilitator or X402Facilitator(money.facilitator()),
        box=box,
        limits=limits,
        clock=clock,
        worker=str(uuid.uuid4()),
        networks=networks or Networks((DEVELOPMENT,)),
        public_url=settings.public_url,
        first_content_seconds=settings.first_content_seconds,
    )
    return Services(
        iam=Iam(local_tokens(settings), limits),
        integrations=Integrations(SqliteKeys(database), box),
        templates=Templates(SqliteCatalogue(database), box),
        paygate=paygate,
        agentic=Agentic(model, Models(claude.retirements(), SUCCESSORS), clock),
        runs=Runs(ledger, box, clock),
        clock=clock,
        resources=(model, database, money),
    )


def key_ring(settings: Settings) -> KeyRing:
    """The key ring of the environment, else the one in the data directory."""
    try:
        return KeyRing(settings.keys) if settings.keys else KeyRing.at(settings.data / "keys")
    except ValueError as error:
        raise SettingsError(f"X402JOBS_KEYS: {error}") from None


def local_tokens(settings: Settings) -> LocalTokens:
    """The embedded issuer."""
    return LocalTokens(settings.data / "token-secret", SystemClock())


def catalogue(settings: Settings) -> SqliteCatalogue:
    """The embedded store's users and templates."""
    return SqliteCatalogue(embedded_store(settings.data))


def development_ledger(data: Path) -> DevelopmentLedger:
    """The play money of this data directory."""
    return DevelopmentLedger(data / "development-ledger.sqlite3")
