"""The demo: a creator with a template for sale and a task to run, over the real code."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Self

from x402jobs import server, stores, wiring
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.wallet import Wallet
from x402jobs.domain.coords import Coords
from x402jobs.domain.errors import NotFound
from x402jobs.domain.secret import Secret
from x402jobs.domain.template_draft import TemplateDraft
from x402jobs.domain.tile import Tile
from x402jobs.services import Services
from x402jobs.settings import Settings

HOST = "127.0.0.1"
CREATOR, SLUG = "ada", "haiku"
PURPOSE = "demo"
"""What the creator's internal API key is for."""
PRICE = 10_000
"""In micro-USDC: one cent."""

SYSTEM_PROMPT = """\
You are a poet who writes haiku in the manner of Bashō: one season, one quiet turn, no rhyme.
Answer with three lines of about five, seven and five syllables, and nothing else.
The haiku is about: {topic}{/topic}"""

TASK = "0:1"
TREE = (
    (
        TASK,
        "A haiku for the garden gate",
        "It hangs there through October, and whoever comes in reads it in the rain.",
    ),
    (
        f"{TASK},1",
        "Find three images",
        "Three things that are seen or heard at the gate, on one line, and nothing else.",
    ),
    (
        f"{TASK},2",
        "Write the haiku",
        "Of what was found: three lines of about five, seven and five syllables, nothing else.",
    ),
    (f"{TASK},-1", "The garden", "A quince, a tin roof, a gate that sticks. The sea is near."),
)
"""A task, its two steps and what is to be known for them: below the creator's root."""

PACE_MS = 40
"""Between two words of the stand-in Claude: slow enough to be seen streaming."""
START_SECONDS = 30.0
GRACE_SECONDS = 3
"""How long answers may go on once the demo is told to stop."""


class DemoError(Exception):
    """The demo cannot go on; the sentence is for whoever started it."""


class Demo:
    """Everything running while its `with` block does; the server is a child process.

    With a `claude_key` the real Claude is asked, at the CLAUDE_URL of the environment; without one
    a stand-in on this machine. Port 0 is any free port. The same data may be used again and again.
    """

    def __init__(
        self,
        data: Path,
        port: int = 0,
        *,
        claude_key: Secret | None = None,
        pace_ms: float = PACE_MS,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.data = data
        self._port = port
        self._claude_key = claude_key
        self._pace_ms = pace_ms
        self._environ = environ
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.claude = None
            if self._claude_key is None:
                self.claude = stack.enter_context(ClaudeServer(delta_ms=self._pace_ms))
            listener = stack.enter_context(_listen(self._port))
            self.url = f"http://{HOST}:{listener.getsockname()[1]}"
            environment = self._environment()
            self.settings = Settings.from_env(environment)
            self._seed()
            self.ledger = wiring.development_ledger(self.data)
            stack.callback(self.ledger.close)
            self.process = stack.enter_context(self._serving(listener, environment))
            listener.close()  # the child has its own; a dead server must not seem to listen
            self._wait_until_healthy()
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def template_url(self) -> str:
        return f"{self.url}/@{CREATOR}/{SLUG}"

    @property
    def task_coords(self) -> str:
        """Where the creator's task is."""
        return f"{self.creator_id},{TASK}"

    @property
    def task_url(self) -> str:
        """Runs the creator's task for the creator."""
        return f"{self.url}/api/stream/execute-task?taskCoords={self.task_coords}"

    @property
    def creator_token(self) -> str:
        """A fresh bearer token of the embedded issuer's, which speaks for the creator."""
        return stores.local_tokens(self.settings).issue(self.creator_id)

    @property
    def creator_headers(self) -> dict[str, str]:
        """What a request of the creator's carries.

        A bearer token; an internal API key where only Supabase Auth may issue those.
        """
        if self.settings.is_embedded:
            return {"Authorization": f"Bearer {self.creator_token}"}
        _, key = stores.internal_keys(self.settings).get_or_create(self.creator_id, PURPOSE)
        return {"x-api-key": key.reveal()}

    @property
    def log(self) -> Path:
        """Where the server writes what it has to say."""
        return self.data / "server.log"

    def _environment(self) -> dict[str, str]:
        """What the server is told: ours, and nothing that would send a key or a call astray."""
        ours = {
            "ENV": "development",
            "PUBLIC_URL": self.url,
            "X402JOBS_BIND": self.url.removeprefix("http://"),
            "X402JOBS_DATA": str(self.data.absolute()),
        }
        if self.claude is not None:
            ours["CLAUDE_URL"] = self.claude.url
        return {k: v for k, v in self._environ.items() if not _is_foreign(k)} | ours

    def _seed(self) -> None:
        """The creator, what they have connected, their template and their task."""
        self.wallet = Wallet.open(self.data / "wallet.key")
        self.creator_wallet = Wallet.open(self.data / f"{CREATOR}.key")
        store = stores.store(self.settings)
        with closing(store.database):
            self.creator_id = store.catalogue.add_user(CREATOR)
        with closing(wiring.build_services(self.settings)) as services:
            services.integrations.save_claude_config(
                self.creator_id, self._claude_key or Secret("sk-stand-in")
            )
            services.integrations.save_pay_to(self.creator_id, self.creator_wallet.address)
            services.resources.publish(
                self.creator_id,
                TemplateDraft(
                    slug=SLUG,
                    name="Haiku",
                    description="A haiku about a topic of your choice.",
                    price=PRICE,
                    system_prompt=SYSTEM_PROMPT,
                    parameters=[{"name": "topic", "description": "What the haiku is about."}],
                    max_tokens=1024,
                ),
            )
            self._plant(services)

    def _plant(self, services: Services) -> None:
        """The tree of the task. One that is there may have been changed by now: it stays."""
        try:
            services.mapping.get(self.creator_id, Coords.parse(self.task_coords))
        except NotFound:
            for place, title, content in TREE:
                coords = Coords.parse(f"{self.creator_id},{place}")
                services.mapping.create(self.creator_id, Tile(coords, title, content))

    @contextmanager
    def _serving(
        self, listener: socket.socket, environment: Mapping[str, str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Gunicorn on the listener, in a session of its own: Ctrl-C is for us to pass on."""
        command = server.command(
            "--bind", f"fd://{listener.fileno()}", "--graceful-timeout", str(GRACE_SECONDS)
        )
        log = os.open(self.log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        try:
            process = subprocess.Popen(
                command,
                cwd=server.checkout(),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        finally:
            os.close(log)
        try:
            yield process
        finally:
            _end(process)

    def _wait_until_healthy(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            if self._is_healthy():
                return
            time.sleep(0.05)
        last = self.log.read_text(errors="replace").splitlines()[-5:]
        raise DemoError("\n".join(["the server did not start; its log ends with:", *last]))

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _listen(port: int) -> socket.socket:
    """A listening socket, so that nobody can take the port before the server is there."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise DemoError(
            f"port {port} cannot be used ({error.strerror}). "
            "Choose another one with --port N, or any free one with --port 0."
        ) from None
    return listener


def _is_foreign(variable: str) -> bool:
    name = variable.upper()
    foreign = ("ANTHROPIC_", "GUNICORN_", "FACILITATOR_", "X402_")
    return name.startswith(foreign) or name.endswith("_PROXY")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and its worker, politely first."""
    process.terminate()
    try:
        process.wait(GRACE_SECONDS + 2)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
