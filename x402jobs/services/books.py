"""What has been sold, and to whom: the ledger, read."""

from collections.abc import Sequence

from x402jobs.domain.execution import Execution
from x402jobs.domain.networks import DEVELOPMENT, Networks
from x402jobs.domain.page import Page
from x402jobs.domain.sales import Sales
from x402jobs.ports import Ledger


class Books:
    """Only reads; who may see what is decided before it is asked."""

    def __init__(self, ledger: Ledger, networks: Networks) -> None:
        self._ledger = ledger
        # Play money from a shop's first days is not added to what it earns afterwards.
        plays = any(network.development for network in networks.offered)
        self._uncounted = () if plays else (DEVELOPMENT.id,)

    def sales(self, template_id: str) -> Sales:
        """What a template has done."""
        return self.sales_of_all([template_id])[0]

    def sales_of_all(self, template_ids: Sequence[str]) -> list[Sales]:
        """What each template has done, in the order asked."""
        found = self._ledger.sales(template_ids, self._uncounted) if template_ids else {}
        return [found.get(each, Sales()) for each in template_ids]

    def runs_of(self, template_id: str, limit: int, offset: int) -> Page[Execution]:
        """A template's runs, newest first: calls, tests, and claims that came to nothing."""
        return self._ledger.executions_of(limit, offset, template_id=template_id)

    def calls_of(self, caller_id: str, limit: int, offset: int) -> Page[Execution]:
        """What an account has asked for while it was signed in, newest first."""
        return self._ledger.executions_of(limit, offset, caller_id=caller_id)
