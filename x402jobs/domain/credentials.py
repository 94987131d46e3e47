"""What a caller shows to be recognised, and what is kept to recognise it by."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from x402jobs.domain.caller import Method

_SECRET = r"[A-Za-z0-9_-]{43}"
SESSION = re.compile(_SECRET)
"""A session's token: 32 random bytes."""
EXTERNAL_KEY = re.compile(rf"xj_([0-9a-f]{{16}})_{_SECRET}")
INTERNAL_KEY = re.compile(rf"xi_([0-9a-f]{{16}})_{_SECRET}")
"""Both keys begin with a part that may be shown, and hold their id."""


@dataclass(frozen=True)
class Credentials:
    """What a request shows, each of it good or bad. `hint`: whose it says an internal key is."""

    session: str | None = field(default=None, repr=False)
    authorization: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    hint: str | None = None

    @property
    def key_method(self) -> Method:
        """Which kind of API key it is meant to be."""
        is_internal = self.api_key is not None and self.api_key.startswith("xi_")
        return Method.INTERNAL if is_internal else Method.EXTERNAL

    @property
    def methods(self) -> set[Method]:
        """The kinds that are shown."""
        shown = {
            Method.SESSION: self.session,
            Method.BEARER: self.authorization,
            self.key_method: self.api_key,
        }
        return {method for method, value in shown.items() if value is not None}

    def only(self, methods: Collection[Method]) -> "Credentials":
        """These without those of any other kind."""
        return replace(
            self,
            session=self.session if Method.SESSION in methods else None,
            authorization=self.authorization if Method.BEARER in methods else None,
            api_key=self.api_key if self.key_method in methods else None,
        )


@dataclass(frozen=True)
class Session:
    """A browser that is signed in. Times are unix seconds, here and below."""

    digest: str = field(repr=False)
    user_id: str
    renewed_at: float
    expires_at: float


@dataclass(frozen=True)
class ApiKey:
    """An account's own key for its programs. The key itself is kept nowhere."""

    id: str
    user_id: str
    name: str
    digest: str = field(repr=False)
    created_at: float
    last_used_at: float | None = None
    expires_at: float | None = None

    @property
    def prefix(self) -> str:
        """The part of the key that may be shown, for its owner to tell it from others."""
        return f"xj_{self.id}"


@dataclass(frozen=True)
class InternalKey:
    """A key by which a trusted service speaks for an account: one for each purpose.

    It is kept sealed, so that the service can be shown it again.
    """

    id: str
    user_id: str
    purpose: str
    digest: str = field(repr=False)
    sealed_key: str = field(repr=False)
    created_at: float
    last_used_at: float | None = None
    expires_at: float | None = None
