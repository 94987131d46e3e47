"""Browsers that are signed in."""

import secrets
from dataclasses import replace

from x402jobs.domain.caller import Caller, Method
from x402jobs.domain.credentials import SESSION, Session
from x402jobs.domain.errors import TooManyRequests, Unauthenticated
from x402jobs.domain.secret import Secret
from x402jobs.ports import Clock, Identities, Limits
from x402jobs.services.iam.pepper import Pepper

DAY_SECONDS = 24 * 3600
SESSION_SECONDS = 7 * DAY_SECONDS


class Sessions:
    """A session ends seven days after it was last begun anew, which happens once a day in use."""

    def __init__(
        self, identities: Identities, pepper: Pepper, limits: Limits, clock: Clock
    ) -> None:
        self._identities = identities
        self._pepper = pepper
        self._limits = limits
        self._clock = clock

    def begin(self, user_id: str) -> Secret:
        """Sign the account in; the token is known to its browser alone. Raises TooManyRequests."""
        if (wait := self._limits.hit("session", user_id)) is not None:
            raise TooManyRequests(retry_after=wait)
        token, now = secrets.token_urlsafe(32), self._clock.now()
        self._identities.add_session(
            Session(self._pepper.digest(token), user_id, now, now + SESSION_SECONDS)
        )
        return Secret(token)

    def caller(self, token: str) -> Caller:
        """Who is signed in. Raises Unauthenticated for a token that is unknown, or over."""
        if SESSION.fullmatch(token) is None:
            raise Unauthenticated()
        session, now = self._identities.session(self._pepper.digest(token)), self._clock.now()
        if session is None or session.expires_at <= now:
            raise Unauthenticated()
        is_old = session.renewed_at <= now - DAY_SECONDS
        if is_old:
            renewed = replace(session, renewed_at=now, expires_at=now + SESSION_SECONDS)
            self._identities.renew_session(renewed)
        return Caller(session.user_id, Method.SESSION, is_renewed=is_old)

    def end(self, token: str) -> None:
        """Sign out. One that is unknown, or over, is no fault."""
        if SESSION.fullmatch(token) is not None:
            self._identities.end_session(self._pepper.digest(token))
