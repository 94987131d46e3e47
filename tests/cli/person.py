"""Somebody with a map of tiles of their own, and the command that speaks for them."""

import subprocess
import uuid
from dataclasses import dataclass
from typing import Any

import requests

from tests.cli.conftest import X402JOBS, Command, on_a_terminal
from x402jobs import stores
from x402jobs.devkit.demo import Demo


@dataclass
class Person:
    """An account that nobody has used yet: task runs are limited, account by account."""

    shop: Demo
    command: Command
    has_key: bool = True

    def __post_init__(self) -> None:
        self.name = f"u{uuid.uuid4().hex[:12]}"
        self.id = stores.catalogue(self.shop.settings).add_user(self.name)
        self.token = stores.local_tokens(self.shop.settings).issue(self.id)
        if self.has_key:
            self.knock("/integrations/claude/config", "PUT", {"apiKey": f"sk-of-{self.name}"})

    @property
    def shell(self) -> dict[str, str]:
        """What their environment holds."""
        return {"X402JOBS_URL": self.shop.url, "X402JOBS_TOKEN": self.token}

    def run(self, *arguments: str, **changes: Any) -> "subprocess.CompletedProcess[str]":
        """The command, on a pipe."""
        return self.command(*arguments, **self.shell | changes)

    def on_a_terminal(self, *arguments: str, **changes: str) -> tuple[int, str]:
        """The command, on a terminal."""
        return self.on_a_terminal_of(*X402JOBS, *arguments, **changes)

    def on_a_terminal_of(self, *command: str, **changes: str) -> tuple[int, str]:
        """Any command, on a terminal of theirs."""
        return on_a_terminal(*command, **self.shell | changes)

    def knock(self, door: str, method: str = "GET", send: Any = None) -> Any:
        """A door's own reply, asked for without the command."""
        with requests.Session() as session:
            session.trust_env = False
            headers = {"Authorization": f"Bearer {self.token}"}
            reply = session.request(
                method, self.shop.url + door, json=send, headers=headers, timeout=20
            )
        return reply.json() if reply.content else None

    def put(self, place: str, title: str = "Sweep", **more: str) -> Any:
        """A tile on their map, as the door replies."""
        return self.knock(
            "/api/tiles", "POST", {"coords": f"{self.id},{place}", "title": title, **more}
        )

    def places(self) -> list[str]:
        """Where they have tiles and plans."""
        return [
            each["coords"].partition(",")[2] for each in self.knock("/api/tiles?limit=100")["tiles"]
        ]
