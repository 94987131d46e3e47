"""Every line has the ids of the request it is about, also where fifty are served at once; and what
is counted outlives the worker that has counted it.
"""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import CREATOR_KEY, RAIN, events
from tests.figures import Figures, read
from tests.waiting import eventually
from tests.wire.conftest import Server, serving
from x402jobs.domain.coords import Coords
from x402jobs.domain.tile import Tile

pytestmark = pytest.mark.wire

AT_ONCE = 50
KINDS = ("paid", "replay", "json", "refused", "paid")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    several = str(AT_ONCE)  # of one payer's
    directory = tmp_path_factory.mktemp("lines")
    with serving(directory, LOG_LEVEL="DEBUG", PAYER_CALLS_AT_ONCE=several) as running:
        yield running


def lines(server: Server) -> list[dict[str, Any]]:
    """What the service itself has written. gunicorn's own lines are no JSON."""
    said = server.log.read_text().splitlines()
    return [json.loads(line) for line in said if line.startswith("{")]


def figures(server: Server) -> Figures:
    with server.http() as client:
        return read(client.get("/metrics").text)


def test_of_fifty_calls_at_once_each_line_is_about_its_own(server: Server) -> None:
    """Each on a connection that has served another request before it."""
    server.claude.script()
    payments = [server.payment() for _ in range(AT_ONCE)]
    told: dict[str, str] = {}

    def call(number: int) -> None:
        name, kind = f"caller-{number:04}", KINDS[number % len(KINDS)]
        named = {"X-Request-Id": name} | payments[number]
        with server.http() as client:
            client.get("/nothing/here", headers={"X-Request-Id": f"{name}-before"})
            path = "/@ada/haiku?stream=false" if kind == "json" else "/@ada/haiku"
            values = {"snow": 1} if kind == "refused" else RAIN
            reply = client.post(path, json=values, headers=named)
            told[name] = reply.headers.get("X-Execution-Id", "")
            if kind == "replay":
                again = named | {"X-Request-Id": f"{name}-again"}
                reply = client.post("/@ada/haiku", json=RAIN, headers=again)
                told[f"{name}-again"] = reply.headers["X-Execution-Id"]

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(call, range(AT_ONCE)))

    executed = {name: id for name, id in told.items() if id}
    assert len(set(executed.values())) == 4 * AT_ONCE // len(KINDS)

    def delivered() -> dict[str, str]:
        mine = (each for each in lines(server) if each["event"] == "delivered")
        return {each["request_id"]: each["execution_id"] for each in mine}

    assert eventually(lambda: delivered().keys() >= executed.keys())
    for line in lines(server):
        name = line.get("request_id", "")
        if name.startswith("caller-"):
            assert line.get("execution_id", told.get(name, "")) == told.get(name, ""), line
    ended = {
        each["execution_id"]: each["request_id"]
        for each in lines(server)
        if each["event"] == "run_ended"
    }
    begun_by = {id: name for name, id in executed.items() if not name.endswith("-again")}
    assert ended == begun_by


def test_every_line_of_a_request_has_its_id(server: Server) -> None:
    server.services.mapping.get(server.ada, Coords(server.ada))
    tile = Tile(Coords.parse(f"{server.ada},0:1"), "Clean the gutters")
    server.services.mapping.create(server.ada, tile)
    server.claude.script(
        {"text": "Done."}, {"text": "Rain, and", "cutAtByte": 700}, {"status": 401}
    )
    bearer = {"Authorization": f"Bearer {server.token()}", "X-Request-Id": "task-0001"}

    with server.http() as client:
        door = f"/api/stream/execute-task?taskCoords={server.ada},0:1"
        task = client.get(door, headers=bearer).headers["X-Execution-Id"]
        broken = server.post(headers=server.payment() | {"X-Request-Id": "broken-0001"})
        refused = server.post(headers=server.payment() | {"X-Request-Id": "refused-0001"})

    assert events(broken.content)[-1]["type"] == "error"
    assert refused.status_code == 502

    def of(name: str) -> list[dict[str, Any]]:
        return [each for each in lines(server) if each.get("request_id") == name]

    assert eventually(lambda: len(of("task-0001")) >= 2 and len(of("broken-0001")) >= 2)
    for name, expected, execution in (
        ("task-0001", ["run_ended", "delivered"], task),
        ("broken-0001", ["run_ended", "delivered"], broken.headers["X-Execution-Id"]),
        ("refused-0001", ["row_let_go", "refused"], server.rows()[-1]["id"]),
    ):
        assert [each["event"] for each in of(name)] == expected
        assert {each["execution_id"] for each in of(name)} == {execution}
    unnamed = [each for each in lines(server) if "request_id" not in each]
    assert {each["logger"].rpartition(".")[2] for each in unnamed} <= {"caretaker", "readiness"}
    assert CREATOR_KEY not in server.log.read_text()


def test_what_was_counted_outlives_its_worker(server: Server) -> None:
    """A stream too that the old worker ends when the new one is there already."""
    server.claude.script({"text": "one two three four", "afterDeltas": 2, "stallSeconds": 3})
    before = figures(server)
    with server.dial() as caller:
        caller.send("POST", server.path, server.payment(), b'{"topic":"rain"}')
        assert caller.head()[0] == 200
        caller.chunk()

        os.kill(server.pid, signal.SIGHUP)
        caller.rest()
    assert eventually(lambda: "Worker exiting" in server.log.read_text(), 30)
    assert eventually(lambda: figures(server)["x402jobs_draining"] == 0)  # the master has noticed

    after = figures(server)
    ended = 'x402jobs_executions_total{code="",kind="paid",state="completed"}'
    settled = 'x402jobs_settled_micro_usdc_total{network="eip155:31337"}'
    assert server.log.read_text().count("Booting worker") == 2
    assert (after[ended], after[settled]) == (before[ended] + 1, before[settled] + 10_000)
    assert after["x402jobs_open_streams"] == 0
