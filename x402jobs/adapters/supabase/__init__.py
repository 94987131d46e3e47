"""The production store: a Supabase project, asked through PostgREST."""

from x402jobs.adapters.supabase.audit import SupabaseAudit
from x402jobs.adapters.supabase.catalogue import SupabaseCatalogue
from x402jobs.adapters.supabase.database import Database
from x402jobs.adapters.supabase.identities import SupabaseIdentities
from x402jobs.adapters.supabase.keys import SupabaseKeys
from x402jobs.adapters.supabase.ledger import SupabaseLedger
from x402jobs.adapters.supabase.sealed import SupabaseSealed
from x402jobs.adapters.supabase.tiles import SupabaseTiles
from x402jobs.domain.secret import Secret
from x402jobs.ports import Store


def supabase_store(url: str, secret_key: Secret) -> Store:
    """The store of this project, which has our migrations. Nothing is asked of it yet."""
    database = Database(url, secret_key)
    return Store(
        ledger=SupabaseLedger(database),
        audit=SupabaseAudit(database),
        catalogue=SupabaseCatalogue(database),
        keys=SupabaseKeys(database),
        sealed=SupabaseSealed(database),
        identities=SupabaseIdentities(database),
        tiles=SupabaseTiles(database),
        database=database,
    )
