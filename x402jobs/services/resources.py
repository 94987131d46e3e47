"""A creator's templates: writing them, changing them, taking them away."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from x402jobs.domain.errors import InvalidRequest, NotFound, SlugTaken, Unreadable
from x402jobs.domain.listing import StoredTemplate
from x402jobs.domain.networks import Network, Networks
from x402jobs.domain.page import Page
from x402jobs.domain.template_draft import TemplateDraft, slug_of
from x402jobs.ports import Catalogue, Clock, SecretBox
from x402jobs.services.templates import prompt_place

MAX_SLUGS_TRIED = 100


class Resources:
    """Each method acts for one owner; what is somebody else's does not exist for them."""

    def __init__(
        self,
        catalogue: Catalogue,
        box: SecretBox,
        clock: Clock,
        networks: Networks,
        public_url: str,
    ) -> None:
        self._catalogue = catalogue
        self._box = box
        self._clock = clock
        self._networks = networks
        self._public_url = public_url

    def create(self, owner_id: str, draft: TemplateDraft) -> StoredTemplate:
        """Put a new template on the shelf.

        Raises InvalidRequest, also for an owner without a username, and SlugTaken for a slug that
        was asked for; one made from the name gets a number instead.
        """
        username = self._catalogue.username(owner_id)
        if username is None:
            raise InvalidRequest(
                'Choose a username first: PUT /user/profile with {"username": …}.',
                field="username",
            )
        identity = (str(uuid.uuid4()), owner_id, username)
        for attempt in range(1, MAX_SLUGS_TRIED + 1):
            slug = draft.slug or slug_of(draft.name, attempt)
            template = self._stored(replace(draft, slug=slug), *identity)
            try:
                self._catalogue.add_template(template)
                return template
            except SlugTaken:
                if draft.slug is not None or attempt == MAX_SLUGS_TRIED:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def page(self, owner_id: str, limit: int, offset: int) -> Page[StoredTemplate]:
        """The owner's templates, newest first."""
        return self._catalogue.templates(owner_id, limit, offset)

    def get(self, owner_id: str, template_id: str) -> StoredTemplate:
        """One of the owner's templates. Raises NotFound."""
        template = self._catalogue.template(owner_id, template_id)
        if template is None:
            raise NotFound("You have no such template.")
        return template

    def check_written(self, owner_id: str, template_id: str) -> None:
        """Raises NotFound unless the template is the owner's, or was before it was deleted."""
        if not self._catalogue.has_written(owner_id, template_id):
            raise NotFound("You have no such template.")

    def edit(self, owner_id: str, template_id: str, changes: Mapping[str, Any]) -> StoredTemplate:
        """Change some of a draft's fields, by their names.

        Raises NotFound, InvalidRequest, SlugTaken, and Stale when somebody else was faster.
        """
        before = self.get(owner_id, template_id)
        draft = replace(self.draft(before), **changes)
        identity = (before.id, before.owner_id, before.username)
        after = replace(
            self._stored(draft, *identity, network=before.network),
            version=before.version + 1,
            created_at=before.created_at,
        )
        self._catalogue.replace_template(before, after)
        return after

    def delete(self, owner_id: str, template_id: str) -> None:
        """Take it away; its sales stay, its slug is free. Raises NotFound."""
        if not self._catalogue.delete_template(owner_id, template_id, self._clock.now()):
            raise NotFound("You have no such template.")

    def publish(self, owner_id: str, draft: TemplateDraft) -> StoredTemplate:
        """Create it, or edit the owner's active template that has the draft's slug."""
        username = self._catalogue.username(owner_id) or ""
        there = self._catalogue.listing(username, draft.slug or "", None).template
        if there is None:
            return self.create(owner_id, draft)
        return self.edit(owner_id, there.id, vars(draft))

    def draft(self, template: StoredTemplate) -> TemplateDraft:
        """What its creator wrote; a prompt that can no longer be read is the empty text."""
        try:
            prompt = self._box.open(template.sealed_prompt, prompt_place(template.owner_id))
            system_prompt = prompt.reveal()
        except Unreadable:
            system_prompt = ""
        return TemplateDraft(
            name=template.name,
            price=template.price,
            system_prompt=system_prompt,
            parameters=template.definitions,
            slug=template.slug,
            description=template.description,
            network=template.network,
            model=template.model,
            max_tokens=template.max_tokens,
            allows_user_message=template.allows_user_message,
            is_active=template.is_active,
        )

    def url(self, template: StoredTemplate) -> str:
        """Where callers find it."""
        return f"{self._public_url}/@{template.username}/{template.slug}"

    def network(self, template: StoredTemplate) -> Network:
        """The network its creator wants to be paid on, unless nobody knows it now."""
        return self._networks.known(template.network) or self._networks.offered[0]

    def paid_on(self, template: StoredTemplate) -> Network:
        """The network a caller is asked to pay on first: the creator's, where it is offered."""
        return self._networks.find(template.network) or self._networks.offered[0]

    def _stored(
        self, draft: TemplateDraft, id: str, owner_id: str, username: str, network: str = ""
    ) -> StoredTemplate:
        """A draft as it will rest: checked, and sealed. `network` is the one stored so far."""
        draft.check()
        now = self._clock.now()
        return StoredTemplate(
            id=id,
            version=1,
            owner_id=owner_id,
            username=username,
            slug=draft.slug or slug_of(draft.name),
            name=draft.name,
            description=draft.description,
            price=draft.price,
            sealed_prompt=self._box.seal(draft.system_prompt, prompt_place(owner_id)),
            parameters=json.dumps(list(draft.parameters)),
            model=draft.model,
            max_tokens=draft.max_tokens,
            allows_user_message=draft.allows_user_message,
            network=self._network(draft.network, network),
            created_at=now,
            updated_at=now,
            is_active=draft.is_active,
        )

    def _network(self, wanted: str | None, stored: str) -> str:
        """The stored name of a wanted network. One that was stored may stay, offered or not."""
        before = self._networks.known(stored)
        if wanted == stored or (before is not None and wanted and before.is_called(wanted)):
            return stored
        network = self._networks.find(wanted) if wanted else self._networks.offered[0]
        if network is None:
            offered = ", ".join(each.id for each in self._networks.offered)
            raise InvalidRequest(f"network must be one of: {offered}.", field="network")
        return network.short_name or network.id
