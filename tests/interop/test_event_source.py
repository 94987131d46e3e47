"""A browser's EventSource hears a template that is free."""

import pytest

from tests.conftest import text_of
from tests.interop.clients import running
from tests.wire.conftest import Server

pytestmark = pytest.mark.wire


def test_an_event_source_hears_a_free_answer_as_it_is_spoken(server: Server) -> None:
    words = "Rain taps the window, and nobody is home."
    server.claude.script({"text": words, "deltaMs": 100}, {"text": "Asked again."})

    with running("event_source.mjs", {"url": f"{server.url}{server.free}?topic=rain"}) as lines:
        first = next(lines)["event"]
        then = server.call()["finishedAt"]
        said = [first, *(line["event"] for line in lines)]

    assert then is None, "the first event came after Claude had finished"
    assert (text_of(said), said[-1]["type"]) == (words, "done")
    assert (len(server.claude.calls), server.transfers()) == (1, [])


def test_an_event_source_is_told_that_a_template_has_a_price(server: Server) -> None:
    """It cannot pay, and does not ask for ever."""
    with running("event_source.mjs", {"url": f"{server.url}{server.path}?topic=rain"}) as lines:
        (line,) = lines

    assert line["status"] == 402
    assert (server.rows(), server.claude.calls) == ([], [])
