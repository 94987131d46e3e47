"""Somebody who is signed in at a running shop: an account with tiles, keys and a Claude key."""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.conftest import CREATOR_KEY
from tests.nginx import nginx
from tests.supabase.postgres import Postgres
from tests.waiting import free_port
from tests.wire.conftest import ROOT, Server, serving
from x402jobs.domain.coords import Coords
from x402jobs.domain.secret import Secret
from x402jobs.domain.tile import Tile

DOOR = "/api/stream/execute-task"
SEED_3 = Path(__file__).with_name("seed_3")
"""The usage examples of seed 3, each as it is printed there."""
PLACES = {
    "event_source.js": {"coords": "userId123,0:1,2"},
    "fetch.js": {"key": "your-api-key", "hint": "user-id-hint", "handled": "// Handle event..."},
    "curl.sh": {"host": "http://localhost:3000", "coords": "userId,0:1", "key": "your-api-key"},
}
PAGE = (ROOT / "docs" / "tasks.md").read_text()

_numbers = itertools.count()


@dataclass(frozen=True)
class Account:
    """Each has runs of its own to spend: they are limited for each account."""

    server: Server
    name: str
    id: str

    @classmethod
    def at(cls, server: Server) -> "Account":
        """Somebody new."""
        name = f"visitor{next(_numbers)}"
        user_id = server.store.catalogue.add_user(name)
        server.services.integrations.save_claude_config(user_id, Secret(CREATOR_KEY))
        return cls(server, name, user_id)

    @property
    def bearer(self) -> str:
        return f"Bearer {self.server.token(self.name)}"

    def tile(self, path: str, title: str, **more: Any) -> str:
        """A new tile; its coordinates."""
        mapping = self.server.services.mapping
        mapping.get(self.id, Coords(self.id))  # the root is made by who first looks at it
        coords = Coords.parse(f"{self.id},0:{path}")
        mapping.create(self.id, Tile(coords, title, **more))
        return str(coords)

    def api_key(self) -> str:
        """A new key for a program."""
        with self.server.http() as client:
            reply = client.post(
                "/api/keys", json={"name": "A program"}, headers={"Authorization": self.bearer}
            )
        assert reply.status_code == 201, reply.text
        return str(reply.json()["key"])

    def internal_key(self) -> str:
        """The key by which a trusted service speaks for this account."""
        return self.server.internal_key(self.id)

    def door(self, coords: str, **asked: str) -> str:
        """The address that runs a tile."""
        return f"{self.server.url}{DOOR}?{urlencode({'taskCoords': coords} | asked)}"


@contextmanager
def behind_nginx(
    directory: Path, postgres: Postgres | None = None, **environment: str
) -> Iterator[Server]:
    """A shop with the nginx configuration that we ship in front of it."""
    port, socket = free_port(), f"unix:{directory}/x402jobs.sock"
    with (
        nginx(directory, port),
        serving(
            directory,
            f"https://127.0.0.1:{port}",
            postgres=postgres,
            X402JOBS_BIND=socket,
            **environment,
        ) as server,
    ):
        yield server


def printed(name: str, **ours: str) -> str:
    """An example of seed 3 with what is ours in the places that it leaves to its reader."""
    text, places = (SEED_3 / name).read_text(), PLACES[name]
    assert ours.keys() == places.keys()
    for place, value in ours.items():
        assert text.count(places[place]) == 1, place
        text = text.replace(places[place], value)
    return text


def documented(heading: str, language: str) -> list[str]:
    """The examples of docs/tasks.md under a heading, in this language."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def text_of(said: list[dict[str, Any]]) -> str:
    """The answer that the text events of the task door make."""
    return "".join(event["text"] for event in said if event["type"] == "text_delta")


def prompts(server: Server) -> list[str]:
    """What Claude has been sent, oldest first."""
    return [str(call["body"]["messages"][0]["content"]) for call in server.claude.calls]
