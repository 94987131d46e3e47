"""A shop that begins with nothing."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.conftest import X402JOBS, environment
from tests.cli.test_serve import free_port, status_of
from x402jobs.devkit.claude_server import ClaudeServer


@contextmanager
def served(directory: Path, claude: ClaudeServer, **variables: str) -> Iterator[str]:
    """`x402jobs serve` in this directory; its URL."""
    port = free_port()
    with (
        (directory / "server.log").open("wb") as log,
        subprocess.Popen(
            [*X402JOBS, "serve", "--bind", f"127.0.0.1:{port}", "--data", "data"],
            cwd=directory,
            env=environment(CLAUDE_URL=claude.url, **variables),
            stderr=log,
            stdout=log,
        ) as process,
    ):
        try:
            until = time.monotonic() + 30
            while status_of(port) != 200 and time.monotonic() < until:
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
