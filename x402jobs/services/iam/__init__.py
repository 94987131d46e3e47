"""Who is calling."""

from x402jobs.domain.caller import Caller
from x402jobs.domain.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    TooManyRequests,
    Unauthenticated,
)
from x402jobs.domain.prompt_template import PromptTemplate
from x402jobs.ports import Catalogue, Limits, TokenVerifier


class Iam:
    """Turns credentials into a Caller; nothing else reads them."""

    def __init__(self, tokens: TokenVerifier, limits: Limits, catalogue: Catalogue) -> None:
        self._tokens = tokens
        self._limits = limits
        self._catalogue = catalogue

    def recognise(self, authorization: str | None, address: str) -> Caller | None:
        """The caller behind an Authorization header, None when there is no header.

        Raises Unauthenticated for one that is present and bad, and TooManyRequests for the address
        that sends too many of those.
        """
        if authorization is None:
            return None
        scheme, _, token = authorization.partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise Unauthenticated("The Authorization header must be: Bearer <token>.")
            return Caller(self._tokens.user_id(token.strip()), method="bearer")
        except Unauthenticated:
            if (wait := self._limits.hit("failed_credential", address)) is not None:
                raise TooManyRequests(retry_after=wait) from None
            raise

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
