"""Long silences through nginx as we ship it: it is more patient than the service."""

from pathlib import Path

from tests.conftest import events, text_of
from tests.load.site import Report
from tests.nginx import nginx
from tests.waiting import free_port
from tests.wire.conftest import Answer, Server, serving


def quiet(at: Path, silence: float, whole: float) -> Report:
    """A stream without a word for `silence` seconds, and a JSON reply after `whole` seconds."""
    report = Report(f"a stream silent for {silence:.0f} s, a reply after {whole:.0f} s")
    at.mkdir(parents=True, exist_ok=True)
    port = free_port()
    words = " ".join(f"word{number}" for number in range(12))
    with (
        nginx(at, port),
        serving(
            at,
            f"https://127.0.0.1:{port}",
            X402JOBS_BIND=f"unix:{at}/x402jobs.sock",
            HEARTBEAT_SECONDS="15",
            CLAUDE_IDLE_SECONDS=str(silence + 60),
        ) as server,
    ):
        stream = _ask(server, "", {"text": words, "afterDeltas": 3, "stallSeconds": silence})
        reply = _ask(
            server, "?stream=false", {"text": words, "afterDeltas": 3, "stallSeconds": whole}
        )
        said = events(stream.body.replace(b": ping\n\n", b""))
        report.expect("the stream is whole", text_of(said) == words, stream.body[-300:])
        report.expect("the reply is whole", reply.status == 200, reply.body[:300])
        report.expect("its words", reply.json().get("response") == words, reply.body[:300])
        report.counts = {
            "pings": stream.body.count(b": ping"),
            "statuses": (stream.status, reply.status),
            "transfers": len(server.transfers()),
        }
    return report


def _ask(server: Server, query: str, script: dict[str, object]) -> Answer:
    """One paid call whose answer takes its time."""
    server.claude.script(script)
    with server.dial() as connection:
        connection.socket.settimeout(180)
        connection.send("POST", server.path + query, server.payment(), b'{"topic":"rain"}')
        return connection.answer()
