"""A creator's key: what of it is sent to Claude, and whether Claude takes it."""

import re
from collections.abc import Callable, Iterator
from copy import copy

import anthropic
import jiter

from x402jobs.adapters.claude.call import Call, speaking
from x402jobs.adapters.claude.faults import translate
from x402jobs.domain.errors import InvalidApiKey, ModelError
from x402jobs.domain.secret import Secret

CHECK_SECONDS = 10.0
"""Limit on a whole check: a creator waits for it in front of a form."""
MAX_LIST_BYTES = 64 * 1024


def sendable(key: Secret) -> str:
    """The key for the package's client. Raises InvalidApiKey for one that is not to be sent.

    The package would take an empty key for none and use its own instead, and would quote one that
    cannot stand in a header.
    """
    text = key.reveal()
    if re.fullmatch(r"[!-~]+", text) is None:
        raise InvalidApiKey()
    return text


def check_key(client: Callable[[], anthropic.Anthropic], key: Secret) -> None:
    """See `ports.LanguageModel.check_key`. Asks for one line of Claude's list of models."""
    failure = _failure(client, key)
    if failure is not None:
        # Out here, so that the vendor's exception, which holds the key, is not its context. A
        # copy, since its traceback holds the key as well.
        raise copy(failure)


def _failure(client: Callable[[], anthropic.Anthropic], key: Secret) -> ModelError | None:
    call, answering = Call(), False
    call.limit(CHECK_SECONDS)
    before = speaking.set(call)
    try:
        models = client().copy(api_key=sendable(key)).models
        with models.with_streaming_response.list(limit=1) as response:
            answering = True
            return None if _lists_models(response.iter_bytes()) else ModelError()
    except Exception as error:
        return translate(error, answering=answering)
    finally:
        speaking.reset(before)


def _lists_models(chunks: Iterator[bytes]) -> bool:
    """Whether Claude is what answered: a captive portal's page says nothing about a key."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > MAX_LIST_BYTES:
            return False
    try:
        page = jiter.from_json(bytes(body))  # why jiter: stream.py
    except ValueError:
        return False
    return isinstance(page, dict) and isinstance(page.get("data"), list)
