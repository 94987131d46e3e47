"""The paid door: run a creator's template for whoever pays its price."""

from flask import Blueprint, Response, request

from x402jobs.blueprints import answers, json_reply, services, sse
from x402jobs.blueprints.callers import address, recognise
from x402jobs.blueprints.calls import read_call
from x402jobs.blueprints.line import SocketLine
from x402jobs.domain.call import Call, Mark
from x402jobs.domain.caller import Caller
from x402jobs.domain.execution import Execution
from x402jobs.domain.listing import Listing
from x402jobs.services.runs import Follower

bp = Blueprint("instant", __name__)
DOOR = "/@<username>/<slug>"


@bp.route(DOOR, methods=["HEAD"], provide_automatic_options=False)
def look_at_template(username: str, slug: str) -> Response:
    """What an unpaid GET would be told. Reads no payment, runs nothing (spec/instant.md)."""
    call = read_call(request, services.pricing.networks, services.clock.now())
    recognise()
    listing = services.templates.listing(username, slug, call)
    template = services.templates.find(listing)
    prompt = services.templates.fill(template, call)
    services.integrations.claude_key(listing, template)
    services.agentic.prepare(prompt)
    services.pricing.ask(template, listing, call)
    kind = sse if call.streams else json_reply
    return Response(content_type=kind.CONTENT_TYPE, headers=kind.headers_of(paid=False))


@bp.route(DOOR, methods=["GET", "POST"], provide_automatic_options=False)
def run_template(username: str, slug: str) -> Response:
    """Run a creator's template. The order of these lines is the promise (spec/money.md)."""
    call = read_call(request, services.pricing.networks, services.clock.now())
    line = SocketLine(request.environ)
    caller = recognise()
    listing = services.templates.listing(username, slug, call)
    if call.last_event_id is not None:
        return answers.resume(
            call.last_event_id, lambda mark: bought(mark, listing, call, caller), line
        )
    if earlier := services.paygate.recall(listing, call):
        return answer(services.runs.again(earlier), call, line)
    with services.access.to_debt(listing, call) as listing:
        template = services.templates.find(listing)
        prompt = services.templates.fill(template, call)
        owner_test = services.iam.owner_test(call.owner_test, caller, template)
        key = services.integrations.claude_key(listing, template)
        prompt = services.agentic.prepare(prompt)
        services.runs.check_open()
        with (
            services.paygate.admit(
                template, listing, call, caller=caller, owner_test=owner_test
            ) as admission,
            services.agentic.open(prompt, key, by=admission.deadline, line=line) as speech,
        ):
            line.still_there()
            execution = services.paygate.settle(admission)
            follower = services.runs.start(speech, execution)
    return answer(follower, call, line)


@bp.route(DOOR, methods=["OPTIONS"])
def answer_preflight(username: str, slug: str) -> Response:
    """Any origin may ask; the headers are added to every reply of this door."""
    return Response(status=204)


def bought(mark: Mark, listing: Listing, call: Call, caller: Caller | None) -> Execution:
    """What a stream to be resumed was about, for who shows the payment, the token or the account.

    Raises NotFound or Unauthenticated.
    """
    paid = services.access.by_payment(listing, call)
    if paid is not None and paid.id == mark.execution_id:
        return paid
    return services.access.to_answer(mark.execution_id, call.resume_token, caller, address())


def answer(follower: Follower, call: Call, line: SocketLine) -> Response:
    """The answer in the form the caller wants, with the receipt in front of it."""
    if call.streams:
        return answers.stream(follower, line, ids=call.ids)
    return answers.in_one_piece(follower, line, began=call.began)
