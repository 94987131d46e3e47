"""Which adapter stands behind which port. The only module that knows them all."""

import uuid
from pathlib import Path

from x402jobs.adapters import claude
from x402jobs.adapters.clock import SystemClock
from x402jobs.adapters.facilitator import RemoteFacilitator, X402Facilitator
from x402jobs.adapters.key_ring import KeyRing, KeyRingFile
from x402jobs.adapters.limits import MemoryLimits
from x402jobs.adapters.origin_cipher import OriginCipher
from x402jobs.adapters.secret_box import RingSecretBox
from x402jobs.adapters.sqlite import (
    SqliteCatalogue,
    SqliteKeys,
    SqliteLedger,
    SqliteSealed,
    embedded_store,
)
from x402jobs.adapters.tokens import LocalTokens
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.domain.models import SUCCESSORS, Models
from x402jobs.domain.networks import DEVELOPMENT, Networks
from x402jobs.ports import Closable, Facilitator
from x402jobs.services import Services
from x402jobs.services.agentic import Agentic
from x402jobs.services.books import Books
from x402jobs.services.iam import Iam
from x402jobs.services.integrations import Integrations, claude_key_place
from x402jobs.services.paygate import Paygate, payment_place
from x402jobs.services.resources import Resources
from x402jobs.services.rotation import Rotation
from x402jobs.services.runs import Runs, answer_place
from x402jobs.services.templates import Templates, prompt_place
from x402jobs.settings import Settings, SettingsError


def build_services(
    settings: Settings,
    facilitator: Facilitator | None = None,
    networks: Networks | None = None,
) -> Services:
    """The services over the embedded store and the facilitator of the settings, or other peers.

    Makes the data directory and its keys when there are none. Opens no socket, starts no thread.
    """
    clock = SystemClock()
    box = secret_box(settings)
    database = embedded_store(settings.data)
    payments, money = facilitator_of(settings)
    model = claude.Claude(settings)
    shelf, ledger = SqliteCatalogue(database), SqliteLedger(database)
    networks = networks or Networks(settings.networks or (DEVELOPMENT,))
    limits = MemoryLimits(clock)
    paygate = Paygate(
        ledger=ledger,
        facilitator=facilitator or payments,
        box=box,
        limits=limits,
        clock=clock,
        worker=str(uuid.uuid4()),
        networks=networks,
        public_url=settings.public_url,
        first_content_seconds=settings.first_content_seconds,
    )
    return Services(
        iam=Iam(local_tokens(settings), limits, shelf),
        integrations=Integrations(SqliteKeys(database), box),
        templates=Templates(shelf, box),
        resources=Resources(shelf, box, clock, networks, settings.public_url),
        books=Books(ledger),
        paygate=paygate,
        agentic=Agentic(model, Models(claude.retirements(), SUCCESSORS), clock),
        runs=Runs(ledger, box, clock),
        clock=clock,
        held=(model, database, money),
    )


def facilitator_of(settings: Settings) -> tuple[Facilitator, Closable]:
    """Whoever verifies and settles, and what of it holds files or sockets."""
    if settings.facilitator_url:
        remote = RemoteFacilitator(settings.facilitator_url)
        return X402Facilitator(remote, settle_seconds=settings.settle_seconds), remote
    ledger = development_ledger(settings.data)
    return X402Facilitator(ledger.facilitator()), ledger


def secret_box(settings: Settings) -> RingSecretBox:
    """The box over the key ring, which also reads the origin's rows once its secret is told."""
    secret = settings.integration_secret
    return RingSecretBox(key_ring(settings), OriginCipher(secret) if secret else None)


def key_ring(settings: Settings) -> KeyRing | KeyRingFile:
    """The key ring of the environment, else the one in the data directory."""
    if not settings.keys:
        return key_ring_file(settings)
    try:
        return KeyRing(settings.keys)
    except ValueError as error:
        raise SettingsError(f"X402JOBS_KEYS: {error}") from None


def key_ring_file(settings: Settings) -> KeyRingFile:
    """The key ring in the data directory."""
    path = settings.data / "keys"
    try:
        return KeyRingFile(path)
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from None


def rotation(settings: Settings) -> Rotation:
    """All that is sealed in the embedded store, and the ring to put it under."""
    return Rotation(
        SqliteSealed(embedded_store(settings.data)),
        secret_box(settings),
        (claude_key_place, prompt_place, payment_place, answer_place),
    )


def local_tokens(settings: Settings) -> LocalTokens:
    """The embedded issuer."""
    return LocalTokens(settings.data / "token-secret", SystemClock())


def catalogue(settings: Settings) -> SqliteCatalogue:
    """The embedded store's users and templates."""
    return SqliteCatalogue(embedded_store(settings.data))


def development_ledger(data: Path) -> DevelopmentLedger:
    """The play money of this data directory."""
    return DevelopmentLedger(data / "development-ledger.sqlite3")
