"""The nginx we ship in front of a shop, as it is or as somebody has changed it."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import nginx
from tests.waiting import eventually


@dataclass(frozen=True)
class Front:
    """Where it is to listen, and what lies in its directory: certificate, configuration, logs."""

    directory: Path
    port: int

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        return self.directory / "c.pem"

    @contextmanager
    def running(self, changes: Mapping[str, str] = {}) -> Iterator[None]:
        """The shipped configuration with these pieces of its text replaced, served."""
        text = nginx.adapted(self.directory, self.port)
        for before, after in changes.items():
            assert before in text, f"{before} is not in the file we ship"
            text = text.replace(before, after)
        with nginx.running(self.directory, text):
            assert eventually(self._listens), (self.directory / "error.log").read_text()
            yield

    def certify(self, days: float) -> None:
        """A fresh certificate of its own, which is good for so long."""
        self.certificate.write_bytes(nginx.certificate(days))

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
