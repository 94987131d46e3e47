"""Who is calling."""

from collections.abc import Iterator

from x402jobs.domain.caller import Caller, Method
from x402jobs.domain.credentials import Credentials
from x402jobs.domain.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    TooManyRequests,
    Unauthenticated,
)
from x402jobs.domain.prompt_template import PromptTemplate
from x402jobs.ports import Catalogue, Limits, TokenVerifier
from x402jobs.services.iam.api_keys import ApiKeys
from x402jobs.services.iam.internal_keys import InternalKeys
from x402jobs.services.iam.newcomers import Newcomers
from x402jobs.services.iam.sessions import Sessions

__all__ = ["ApiKeys", "Iam", "InternalKeys", "Newcomers", "Sessions"]


class Iam:
    """Turns credentials into a Caller; nothing else reads them.

    Where the accounts behind the tokens are made elsewhere, `newcomers` has the store know of them.
    """

    def __init__(
        self,
        tokens: TokenVerifier,
        limits: Limits,
        catalogue: Catalogue,
        *,
        sessions: Sessions,
        api_keys: ApiKeys,
        internal_keys: InternalKeys,
        newcomers: Newcomers | None = None,
    ) -> None:
        self._tokens = tokens
        self._limits = limits
        self._catalogue = catalogue
        self.sessions = sessions
        self.api_keys = api_keys
        self._internal_keys = internal_keys
        self._newcomers = newcomers

    def recognise(self, shown: Credentials, address: str) -> Caller | None:
        """The caller behind these credentials, None where there are none.

        Every one of them must be good: raises Unauthenticated for one that is bad, expired,
        unknown or ended, all in the same words, and TooManyRequests for the address that sends too
        many of those. Raises InvalidRequest where they are different accounts'.
        """
        try:
            callers = list(self._callers(shown))
        except Unauthenticated:
            if (wait := self._limits.hit("failed_credential", address)) is not None:
                raise TooManyRequests(retry_after=wait) from None
            raise
        if len({caller.user_id for caller in callers}) > 1:
            raise InvalidRequest(
                "The credentials are of different accounts. Send those of one, or only one."
            )
        return callers[0] if callers else None

    def _callers(self, shown: Credentials) -> Iterator[Caller]:
        """In the order in which they are believed (spec/identity.md)."""
        if shown.session is not None:
            yield self.sessions.caller(shown.session)
        if shown.authorization is not None:
            yield self._bearer(shown.authorization)
        if shown.api_key is not None:
            if shown.key_method is Method.INTERNAL:
                yield self._internal_keys.caller(shown.api_key, shown.hint)
            else:
                yield self.api_keys.caller(shown.api_key)

    def _bearer(self, authorization: str) -> Caller:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("The Authorization header must be: Bearer <token>.")
        user_id = self._tokens.user_id(token.strip())
        if self._newcomers is not None:
            self._newcomers.meet(user_id)
        return Caller(user_id, Method.BEARER)

    def username(self, user_id: str) -> str | None:
        """What the account is called; None before it has chosen a name."""
        return self._catalogue.username(user_id)

    def choose_username(self, user_id: str, username: str) -> str:
        """Name the account, once: the name is part of its templates' URLs. Raises Conflict."""
        name = self._catalogue.give_username(user_id, username)
        if name is None:
            raise Conflict("This username is taken.", field="username")
        if name.lower() != username:
            raise Conflict(f"You are called {name}; a username is chosen once.", field="username")
        return name

    def owner_test(
        self, header: str | None, caller: Caller | None, template: PromptTemplate
    ) -> bool:
        """Whether this is the creator testing their own template, free of charge.

        The header is only a wish: anything but the right creator is refused, and nobody who asked
        for a test is ever charged instead.
        """
        if header is None:
            return False
        if header != "true":
            raise InvalidRequest(
                "X-OWNER-TEST must be exactly one 'true', or absent.", field="X-OWNER-TEST"
            )
        if caller is None:
            raise Unauthenticated("An owner test needs the creator's bearer token.")
        if caller.user_id != template.owner_id:
            raise Forbidden("Only the template's creator may test it.")
        if (wait := self._limits.hit("owner_test", caller.user_id)) is not None:
            raise TooManyRequests(retry_after=wait)
        return True
