"""Sessions, API keys, and the pepper their digests are made with."""

import json
from typing import Any

from x402jobs.adapters.supabase.database import Database, stored
from x402jobs.domain.credentials import ApiKey, InternalKey, Session
from x402jobs.domain.page import Page


class SupabaseIdentities:
    """ports.Identities over Supabase.

    Raises Unauthenticated where something is given to an account that cannot be: its user has been
    deleted meanwhile, and the token that speaks for them has not run out.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def pepper(self, name: str, sealed_pepper: str) -> str:
        return str(self._database.call("x402_pepper", pepper_name=name, sealed=sealed_pepper))

    def add_session(self, session: Session) -> None:
        stored(self._database.write("x402_add_session", session=json.dumps(vars(session))))

    def session(self, digest: str) -> Session | None:
        row = self._database.call("x402_session", session_digest=digest)
        return Session(**_timed(row)) if row else None

    def renew_session(self, session: Session) -> None:
        self._database.call(
            "x402_renew_session",
            session_digest=session.digest,
            renewed=session.renewed_at,
            expires=session.expires_at,
        )

    def end_session(self, digest: str) -> None:
        self._database.call("x402_end_session", session_digest=digest)

    def add_api_key(self, key: ApiKey) -> None:
        stored(self._database.write("x402_add_api_key", key=json.dumps(vars(key))))

    def api_key(self, key_id: str) -> ApiKey | None:
        row = self._database.call("x402_api_key", key_id=key_id)
        return ApiKey(**_timed(row)) if row else None

    def api_keys(self, user_id: str, limit: int, offset: int) -> Page[ApiKey]:
        told = self._database.call(
            "x402_api_keys", owner_id=user_id, page_limit=limit, page_offset=offset
        )
        shown = [ApiKey(**_timed(row)) for row in told["items"]]
        return Page(shown, told["total"], limit, offset)

    def delete_api_key(self, user_id: str, key_id: str) -> bool:
        return bool(self._database.write("x402_delete_api_key", owner_id=user_id, key_id=key_id))

    def note_api_key_used(self, key_id: str, now: float) -> None:
        self._database.call("x402_note_api_key_used", key_id=key_id, used_at=now)

    def internal_key(self, user_id: str, purpose: str) -> InternalKey | None:
        row = self._database.call("x402_internal_key", owner_id=user_id, key_purpose=purpose)
        return InternalKey(**_timed(row)) if row else None

    def internal_key_of(self, digest: str) -> InternalKey | None:
        row = self._database.call("x402_internal_key_of", key_digest=digest)
        return InternalKey(**_timed(row)) if row else None

    def put_internal_key(self, key: InternalKey, replaced: str | None) -> InternalKey:
        there = self._database.call(
            "x402_put_internal_key", key=json.dumps(vars(key)), replaced=replaced
        )
        return InternalKey(**_timed(stored(there)))

    def note_internal_key_used(self, key_id: str, now: float) -> None:
        self._database.call("x402_note_internal_key_used", key_id=key_id, used_at=now)


def _timed(row: dict[str, Any]) -> dict[str, Any]:
    """JSON writes a whole number of seconds without its point."""
    return {
        name: float(value) if name.endswith("_at") and value is not None else value
        for name, value in row.items()
    }
