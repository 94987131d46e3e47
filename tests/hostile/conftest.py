"""One shop that can be reached in three ways at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hostile.conversation import Way
from tests.waiting import free_port
from tests.wire.account import behind_nginx
from tests.wire.conftest import Server
from x402jobs.devkit.wallet import Wallet


@dataclass(frozen=True)
class Exposed:
    """The shop, and the ways to it."""

    server: Server
    ways: dict[str, Way]


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exposed]:
    """gunicorn on a port and on the socket file that nginx passes everything on to."""
    directory, port = tmp_path_factory.mktemp("hostile"), free_port()
    socket = directory / "x402jobs.sock"
    binds = f"--bind unix:{socket} --bind 127.0.0.1:{port}"
    with behind_nginx(directory, GUNICORN_CMD_ARGS=binds) as server:
        ways = {
            "a port of gunicorn's": Way(port=port),
            "its socket file": Way(file=socket),
            "nginx": Way(port=server.port, tls=True),
        }
        yield Exposed(server, ways)


@pytest.fixture
def exposed(standing: Exposed, tmp_path: Path) -> Exposed:
    """Met with a new wallet, nothing scripted and nothing remembered."""
    server = standing.server.visit(Wallet.open(tmp_path / "wallet.key"))
    return Exposed(server, standing.ways)
