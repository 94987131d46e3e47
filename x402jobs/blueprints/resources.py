"""A creator's templates: all verbs, a preview, and what they have sold."""

from typing import Any

from flask import Blueprint, Response, jsonify

from x402jobs.blueprints import calls, replies, services
from x402jobs.blueprints.callers import signed_in
from x402jobs.blueprints.replies import iso, say_execution, say_page
from x402jobs.blueprints.schemas import TemplateSchema, load
from x402jobs.domain.listing import Listing, StoredTemplate
from x402jobs.domain.money import as_usdc
from x402jobs.domain.template_draft import TemplateDraft

bp = Blueprint("resources", __name__)
bp.after_request(replies.private)

ALL, ONE = "/resources", "/resources/<template_id>"


@bp.get(ALL)
def list_templates() -> Response:
    """The creator's templates, paused ones too, newest first."""
    owner = signed_in().user_id
    page = services.resources.page(owner, **replies.read_page())
    return jsonify(say_page("resources", page, say))


@bp.post(ALL)
def create_template() -> Response:
    """Put a new template on the shelf."""
    owner = signed_in().user_id
    draft = TemplateDraft(**load(TemplateSchema(), replies.read_object()))
    services.agentic.accept_model(draft.model)
    template = services.resources.create(owner, draft)
    return replies.created(say(template), f"{ALL}/{template.id}")


@bp.get(ONE)
def show_template(template_id: str) -> Response:
    """Everything the creator wrote, the prompt included."""
    return jsonify(say(services.resources.get(signed_in().user_id, template_id)))


@bp.patch(ONE)
def edit_template(template_id: str) -> Response:
    """Change some of it; the rest stays. An old quote is worth a fresh one afterwards."""
    owner = signed_in().user_id
    changes = load(TemplateSchema(), replies.read_object(), partial=True)
    if "model" in changes:
        services.agentic.accept_model(changes["model"])
    return jsonify(say(services.resources.edit(owner, template_id, changes)))


@bp.delete(ONE)
def delete_template(template_id: str) -> Response:
    """Take it away. What was sold stays sold; the slug is free."""
    services.resources.delete(signed_in().user_id, template_id)
    return Response(status=204)


@bp.post(f"{ONE}/preview")
def preview_template(template_id: str) -> Response:
    """What Claude would be asked, for these values. No call is made, nothing is charged."""
    template = services.resources.get(signed_in().user_id, template_id)
    values = calls.check_values(replies.read_object(empty={}))
    prompt = services.templates.find(Listing(template=template)).fill(values)
    return jsonify(
        systemPrompt=prompt.system,
        userMessage=prompt.user,
        estimatedTokens=prompt.estimated_tokens,
        priceUsdc=as_usdc(template.price),
    )


@bp.get(f"{ONE}/usage")
def show_usage(template_id: str) -> Response:
    """What the template has sold, in sums and run by run; also after it was deleted."""
    services.resources.check_written(signed_in().user_id, template_id)
    sales = services.books.sales(template_id)
    page = services.books.runs_of(template_id, **replies.read_page())
    totals = {
        "calls": sales.calls,
        "completed": sales.completed,
        "failed": sales.failed,
        "tests": sales.tests,
        "inputTokens": sales.input_tokens,
        "outputTokens": sales.output_tokens,
        "revenueUsdc": as_usdc(sales.revenue),
        "refundsDueUsdc": as_usdc(sales.refunds_due),
    }
    return jsonify({"totals": totals} | say_page("executions", page, say_execution))


def say(template: StoredTemplate) -> dict[str, Any]:
    """A template as its creator sees it."""
    draft = services.resources.draft(template)
    return {
        "id": template.id,
        "slug": template.slug,
        "url": services.resources.url(template),
        "name": template.name,
        "description": template.description,
        "priceUsdc": as_usdc(template.price),
        "network": services.resources.network(template).id,
        "systemPrompt": draft.system_prompt,
        "parameters": draft.parameters,
        "maxTokens": template.max_tokens,
        "model": template.model,
        "allowsUserMessage": template.allows_user_message,
        "isActive": template.is_active,
        "createdAt": iso(template.created_at),
        "updatedAt": iso(template.updated_at),
        "warnings": [
            *draft.warnings(),
            *services.agentic.model_warnings(template.model),
            *services.integrations.warnings(template.owner_id, template.price),
        ],
    }
