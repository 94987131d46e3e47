"""Finding a template and filling it."""

import json
from typing import Any

from x402jobs.domain.call import Call
from x402jobs.domain.errors import NotFound, TemplateUnavailable, Unreadable
from x402jobs.domain.listing import Listing, StoredTemplate
from x402jobs.domain.page import Page
from x402jobs.domain.prompt_template import Parameter, Prompt, PromptTemplate
from x402jobs.ports import Catalogue, Place, SecretBox


def prompt_place(owner_id: str) -> Place:
    """Where a template's prompt rests."""
    return Place("x402_resources", "pt_system_prompt", owner_id, "plaintext")


PUBLIC_WORDS = ("name", "description", "required", "default", "maxLength", "enum")


class Templates:
    """The shop's shelf."""

    def __init__(self, catalogue: Catalogue, box: SecretBox) -> None:
        self._catalogue = catalogue
        self._box = box

    def listing(self, username: str, slug: str, call: Call) -> Listing:
        """Everything the store knows about a call, in one read. Judges nothing."""
        claim_key = call.payment.claim_key if call.payment is not None else None
        return self._catalogue.listing(username, slug, claim_key)

    def shelf(self, limit: int, offset: int) -> Page[StoredTemplate]:
        """Everybody's active templates, newest first."""
        return self._catalogue.shelf(limit, offset)

    def on_shelf(self, username: str, slug: str) -> StoredTemplate:
        """One active template. Raises NotFound."""
        template = self._catalogue.listing(username, slug, None).template
        if template is None:
            raise NotFound("There is no such template.")
        return template

    def parameters(self, template: StoredTemplate) -> list[dict[str, Any]]:
        """A template's parameters for the public: the words of a definition, nothing else."""
        return [
            {name: each[name] for name in PUBLIC_WORDS if name in each}
            for each in template.definitions
        ]

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
                network=stored.network,
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
