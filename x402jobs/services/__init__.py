"""The rules that need more than one value and a port: one noun of the seeds each."""

from dataclasses import dataclass

from x402jobs.ports import Clock, Closable
from x402jobs.services.access import Access
from x402jobs.services.agentic import Agentic
from x402jobs.services.books import Books
from x402jobs.services.caretaker import Caretaker
from x402jobs.services.iam import Iam
from x402jobs.services.integrations import Integrations
from x402jobs.services.mapping import Mapping
from x402jobs.services.paygate import Paygate
from x402jobs.services.pricing import Pricing
from x402jobs.services.readiness import Readiness
from x402jobs.services.resources import Resources
from x402jobs.services.runs import Runs
from x402jobs.services.tasks import Tasks
from x402jobs.services.templates import Templates


@dataclass(frozen=True)
class Services:
    """All of them, as the doors use them."""

    iam: Iam
    integrations: Integrations
    templates: Templates
    resources: Resources
    mapping: Mapping
    tasks: Tasks
    books: Books
    pricing: Pricing
    paygate: Paygate
    agentic: Agentic
    runs: Runs
    access: Access
    caretaker: Caretaker
    readiness: Readiness
    clock: Clock
    held: tuple[Closable, ...] = ()

    def close(self) -> None:
        """Let go of every thread, file and socket."""
        self.caretaker.stop()
        self.readiness.stop()
        for each in self.held:
            each.close()
