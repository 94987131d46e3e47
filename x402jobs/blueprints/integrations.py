"""What a creator connects to the shop: a Claude key, and an address to be paid at."""

from flask import Blueprint, Response, jsonify, request

from x402jobs.blueprints import reading, replies, services
from x402jobs.blueprints.callers import signed_in
from x402jobs.blueprints.schemas import (
    Answer,
    ClaudeConfigSchema,
    VerifySchema,
    WalletConfigSchema,
    load,
)
from x402jobs.domain.errors import InvalidApiKey, InvalidRequest, ModelError
from x402jobs.domain.listing import ClaudeConfig
from x402jobs.domain.secret import Secret

bp = Blueprint("integrations", __name__)
bp.after_request(replies.private)

CLAUDE, WALLET = "/integrations/claude/config", "/integrations/wallet/config"


@bp.get(CLAUDE)
def show_claude_config() -> Response:
    """Whether a key is stored, and whether it is switched on. Never the key."""
    return jsonify(say(services.integrations.claude_config(signed_in().user_id)))


@bp.put(CLAUDE)
def save_claude_config() -> Response:
    """Store a key, or only move its switch; with ?verify=true Claude is asked first."""
    owner = signed_in().user_id
    wanted = load(VerifySchema(), reading.query(request))
    sent = load(ClaudeConfigSchema(), replies.read_object())
    key = Secret(sent["apiKey"]) if "apiKey" in sent else None
    if wanted["verify"] is Answer.YES:
        _try(key)
    config = services.integrations.save_claude_config(owner, key, enabled=sent.get("isEnabled"))
    return jsonify(success=True, **say(config))


@bp.delete(CLAUDE)
def forget_claude_key() -> Response:
    """Remove the key. Saying it twice is no fault."""
    config = services.integrations.forget_claude_key(signed_in().user_id)
    return jsonify(success=True, **say(config))


@bp.get(WALLET)
def show_wallet_config() -> Response:
    """The payout address, null when there is none."""
    return jsonify(baseAddress=services.integrations.pay_to(signed_in().user_id))


@bp.put(WALLET)
def save_wallet_config() -> Response:
    """Store the payout address; it comes back in EIP-55 spelling."""
    owner = signed_in().user_id
    sent = load(WalletConfigSchema(), replies.read_object())
    return jsonify(baseAddress=services.integrations.save_pay_to(owner, sent["baseAddress"]))


@bp.delete(WALLET)
def forget_wallet() -> Response:
    """Remove the payout address. Saying it twice is no fault."""
    services.integrations.forget_pay_to(signed_in().user_id)
    return jsonify(baseAddress=None)


def say(config: ClaudeConfig) -> dict[str, bool]:
    """The stored state."""
    return {"hasApiKey": config.has_key, "isEnabled": config.is_enabled}


def _try(key: Secret | None) -> None:
    """Ask Claude about a key that is to be stored.

    Raises InvalidRequest for one it refuses, and the ModelError met where it cannot be asked.
    """
    if key is None:
        raise InvalidRequest("verify needs an apiKey to try.", field="verify")
    try:
        services.agentic.check_key(key)
    except InvalidApiKey:
        raise InvalidRequest(
            "Claude does not accept this key. Nothing was stored.", field="apiKey"
        ) from None
    except ModelError as error:
        raise type(error)(
            "Claude could not be asked about this key. Nothing was stored: try again, or leave "
            "out ?verify=true.",
            retry_after=error.retry_after,
        ) from None
