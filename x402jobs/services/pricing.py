"""What a call costs, and where it may be paid."""

from collections.abc import Callable, Sequence

from x402jobs.domain.call import Call
from x402jobs.domain.errors import FacilitatorUnavailable, PaymentRequired, TemplateUnavailable
from x402jobs.domain.listing import Listing
from x402jobs.domain.networks import Network, Networks
from x402jobs.domain.payment import PaymentRequirements
from x402jobs.domain.prompt_template import PromptTemplate
from x402jobs.domain.quote import Quote, body_fields

ASK = "Payment required: send it as PAYMENT-SIGNATURE."


class Pricing:
    """Writes quotes. Takes no money and knows no payment."""

    def __init__(
        self, takes: Callable[[Network], bool], networks: Networks, public_url: str
    ) -> None:
        """`takes` says whether payments on a network can be taken now."""
        self._takes = takes
        self.networks = networks
        self._public_url = public_url

    def ask(self, template: PromptTemplate, listing: Listing, call: Call) -> None:
        """What somebody who only looks is told: raises PaymentRequired for a priced template."""
        networks = self.networks_of(template, call)
        if template.price:
            raise PaymentRequired(ASK, self.quote(template, listing, networks))

    def networks_of(self, template: PromptTemplate, call: Call) -> Sequence[Network]:
        """Where this call may be paid: on the network it names, or on all, its template's first."""
        if call.network is None:
            # A stable sort: the others keep the shop's order.
            return sorted(
                self.networks.offered, key=lambda each: not each.is_called(template.network)
            )
        return [self.networks.choose(call.network)]

    def quote(
        self, template: PromptTemplate, listing: Listing, networks: Sequence[Network]
    ) -> Quote:
        """The price, on those networks where payments can be taken now.

        Raises TemplateUnavailable where nobody would be paid, FacilitatorUnavailable where nobody
        could pay.
        """
        if listing.pay_to is None:
            raise TemplateUnavailable()
        requirements = tuple(
            PaymentRequirements(network, template.price, listing.pay_to)
            for network in networks
            if self._takes(network)
        )
        if not requirements:
            raise FacilitatorUnavailable()
        return Quote(
            url=self._public_url + template.path,
            description=template.description or template.name,
            requirements=requirements,
            fields=body_fields(template),
        )
