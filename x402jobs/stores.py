"""Which store there is, for commands that need no more: quick to import.

`wiring` brings the vendors' packages, which take two seconds to load.
"""

from x402jobs.adapters.clock import SystemClock
from x402jobs.adapters.key_ring import KeyRing, KeyRingFile
from x402jobs.adapters.origin_cipher import OriginCipher
from x402jobs.adapters.secret_box import RingSecretBox
from x402jobs.adapters.sqlite import embedded_store
from x402jobs.adapters.tokens import LocalTokens
from x402jobs.domain.secret import Secret
from x402jobs.ports import Catalogue, Clock, Store, TokenVerifier, Transfers
from x402jobs.services.audit import Audit
from x402jobs.services.iam.internal_keys import InternalKeys, internal_key_place
from x402jobs.services.iam.pepper import Pepper, pepper_place
from x402jobs.services.integrations import claude_key_place
from x402jobs.services.rotation import Rotation
from x402jobs.services.runs import answer_place
from x402jobs.services.settlement import payment_place
from x402jobs.services.templates import prompt_place
from x402jobs.settings import Settings, SettingsError


def store(settings: Settings) -> Store:
    """The Supabase project's, or the embedded one where none is named. Asks nothing yet."""
    if settings.is_embedded:
        return embedded_store(settings.data)
    # Half a second of imports, which nobody with the embedded store waits for.
    from x402jobs.adapters.supabase import supabase_store

    return supabase_store(settings.supabase_url, Secret(settings.supabase_secret_key))


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
    """All that is sealed in the store, and the ring to put it under."""
    return Rotation(
        store(settings).sealed,
        secret_box(settings),
        (
            claude_key_place,
            prompt_place,
            payment_place,
            answer_place,
            internal_key_place,
            pepper_place,
        ),
    )


def audit(settings: Settings, play_money: Transfers | None = None) -> Audit:
    """The store's ledger; wiring knows its play money."""
    books = store(settings)
    return Audit(
        books.audit,
        books.ledger,
        SystemClock(),
        opening_seconds=settings.first_content_seconds,
        run_seconds=settings.total_seconds,
        play_money=play_money,
    )


def local_tokens(settings: Settings) -> LocalTokens:
    """The embedded issuer."""
    return LocalTokens(settings.data / "token-secret", SystemClock())


def tokens(settings: Settings, clock: Clock) -> TokenVerifier:
    """Whose bearer tokens count: the Supabase project's, or the embedded issuer's. Never both."""
    if settings.is_embedded:
        return local_tokens(settings)
    from x402jobs.adapters.tokens.supabase import SupabaseTokens

    secret = Secret(settings.supabase_jwt_secret) if settings.supabase_jwt_secret else None
    return SupabaseTokens(settings.supabase_url, secret, clock)


def catalogue(settings: Settings) -> Catalogue:
    """The store's users and templates."""
    return store(settings).catalogue


def internal_keys(settings: Settings) -> InternalKeys:
    """The store's keys for trusted services."""
    identities = store(settings).identities
    box = secret_box(settings)
    return InternalKeys(identities, Pepper(identities, box), box, SystemClock())
