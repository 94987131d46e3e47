"""The shelf, for everybody: what is for sale, what it costs, how often it has worked.

A credential is not needed; a bad one is refused as everywhere (spec/instant.md).
"""

from typing import Any

from flask import Blueprint, Response, jsonify

from x402jobs.blueprints import replies, services
from x402jobs.blueprints.callers import recognise
from x402jobs.blueprints.replies import say_page
from x402jobs.domain.listing import StoredTemplate
from x402jobs.domain.money import as_usdc
from x402jobs.domain.sales import Sales

bp = Blueprint("listings", __name__)


@bp.get("/api/v1/resources")
def list_shelf() -> Response:
    """Every active template, newest first."""
    recognise()
    page = services.templates.shelf(**replies.read_page())
    sales = services.books.sales_of_all([each.id for each in page.items])
    sold = dict(zip((each.id for each in page.items), sales, strict=True))
    return jsonify(say_page("resources", page, lambda each: say(each, sold[each.id])))


@bp.get("/api/v1/resources/@<username>/<slug>")
def show_on_shelf(username: str, slug: str) -> Response:
    """One active template: what its page needs."""
    recognise()
    template = services.templates.on_shelf(username, slug)
    return jsonify(say(template, services.books.sales(template.id)))


def say(template: StoredTemplate, sales: Sales) -> dict[str, Any]:
    """The public fields. The prompt is the creator's product and not among them."""
    return {
        "username": template.username,
        "slug": template.slug,
        "url": services.resources.url(template),
        "name": template.name,
        "description": template.description,
        "priceUsdc": as_usdc(template.price),
        "network": services.resources.paid_on(template).id,
        "parameters": services.templates.parameters(template),
        "model": services.agentic.answering_model(template.model),
        "allowsUserMessage": template.allows_user_message,
        "calls": sales.calls,
        "successRate": sales.success_rate,
    }
