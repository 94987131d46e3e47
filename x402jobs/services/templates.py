"""Finding a template and filling it."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from x402jobs.domain.call import Call
from x402jobs.domain.errors import NotFound, TemplateUnavailable, Unreadable
from x402jobs.domain.listing import Listing, StoredTemplate
from x402jobs.domain.models import DEFAULT_MODEL
from x402jobs.domain.prompt_template import Parameter, Prompt, PromptTemplate
from x402jobs.ports import Catalogue, Place, SecretBox


def prompt_place(owner_id: str) -> Place:
    """Where a template's prompt rests."""
    return Place("x402_resources", "pt_system_prompt", owner_id)


class Templates:
    """The shop's shelf."""

    def __init__(self, catalogue: Catalogue, box: SecretBox) -> None:
        self._catalogue = catalogue
        self._box = box

    def listing(self, username: str, slug: str, call: Call) -> Listing:
        """Everything the store knows about a call, in one read. Judges nothing."""
        claim_key = call.payment.claim_key if call.payment is not None else None
        return self._catalogue.listing(username, slug, claim_key)

    def find(self, listing: Listing) -> PromptTemplate:
        """The template, opened. Raises NotFound, or TemplateUnavailable for one that breaks."""
        stored = listing.template
        if stored is None:
            raise NotFound("There is no such template.")
        try:
            prompt = self._box.open(stored.sealed_prompt, prompt_place(stored.owner_id))
            return PromptTemplate(
                id=stored.id,
                version=stored.version,
                owner_id=stored.owner_id,
                path=f"/@{stored.username}/{stored.slug}",
                name=stored.name,
                description=stored.description,
                price=stored.price,
                system_prompt=prompt.reveal(),
                parameters=[Parameter.parse(each) for each in json.loads(stored.parameters)],
                model=stored.model,
                max_tokens=stored.max_tokens,
                allows_user_message=stored.allows_user_message,
            )
        except (Unreadable, ValueError, KeyError, TypeError, AttributeError):
            raise TemplateUnavailable() from None

    def fill(self, template: PromptTemplate, call: Call) -> Prompt:
        """The prompt of this call. Raises InvalidRequest or ContextTooLong.

        A probe of a priced template is not filled: it meets the quote before anybody reads on.
        """
        if call.is_probe and template.price > 0:
            return template.unfilled()
        return template.fill(call.values)

    def publish(
        self,
        owner_id: str,
        username: str,
        slug: str,
        *,
        name: str,
        price: int,
        system_prompt: str,
        parameters: Sequence[Mapping[str, Any]],
        description: str = "",
        model: str = DEFAULT_MODEL,
        max_tokens: int = 4096,
        allows_user_message: bool = False,
    ) -> None:
        """Put a template on the shelf, in the place of the active one under the same slug.

        `price` is in micro-USDC.
        """
        self._catalogue.put_template(
            StoredTemplate(
                id=str(uuid.uuid4()),
                version=1,
                owner_id=owner_id,
                username=username,
                slug=slug,
                name=name,
                description=description,
                price=price,
                sealed_prompt=self._box.seal(system_prompt, prompt_place(owner_id)),
                parameters=json.dumps(list(parameters)),
                model=model,
                max_tokens=max_tokens,
                allows_user_message=allows_user_message,
            )
        )
