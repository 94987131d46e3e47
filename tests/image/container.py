"""Running the image with runc, the runtime beneath Docker and Kubernetes, as strictly as it can."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.image.build import run

STOP_SECONDS = 20


@dataclass(frozen=True)
class Container:
    """A running container; its first process is the image's own command."""

    name: str
    runc: tuple[str, ...]
    process: subprocess.Popen[bytes]
    log: Path

    def does(
        self, *command: str, says: str = "", environment: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as its user, with `says` on its standard input."""
        told = [
            word for name, value in environment.items() for word in ("--env", f"{name}={value}")
        ]
        return subprocess.run(
            [*self.runc, "exec", *told, self.name, *command],
            input=says,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def stop(self) -> int:
        """Ask it to end, as `docker stop` does; its exit status."""
        run(*self.runc, "kill", self.name, "TERM")
        return self.process.wait(STOP_SECONDS)


@contextmanager
def container(
    name: str,
    directory: Path,
    root: Path,
    config: Mapping[str, Any],
    volumes: Mapping[str, Path],
    **environment: str,
) -> Iterator[Container]:
    """Start it: read-only root, no capability, nothing gained by exec, this machine's loopback.

    `config` is the image's own: user, environment, directory and command are taken from there.
    """
    directory.mkdir()
    bundle = directory / "config.json"
    run("runc", "spec", "--bundle", directory)
    bundle.write_text(
        json.dumps(_strict(json.loads(bundle.read_text()), root, config, volumes, environment))
    )
    runc = ("runc", "--root", str(directory / "runc"))
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*runc, "run", "--bundle", str(directory), name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield Container(name, runc, process, log)
    finally:
        if process.poll() is None:
            subprocess.run([*runc, "kill", name, "KILL"], capture_output=True)
            process.wait(STOP_SECONDS)
        subprocess.run([*runc, "delete", "--force", name], capture_output=True)


def _strict(
    spec: dict[str, Any],
    root: Path,
    config: Mapping[str, Any],
    volumes: Mapping[str, Path],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    user, group = (int(each) for each in config["User"].split(":"))
    spec["root"] = {"path": str(root), "readonly": True}
    spec["process"] |= {
        "terminal": False,
        "user": {"uid": user, "gid": group},
        "env": [*config["Env"], *(f"{name}={value}" for name, value in environment.items())],
        "cwd": config["WorkingDir"],
        "args": config["Cmd"],
        "capabilities": {kind: [] for kind in spec["process"]["capabilities"]},
        "noNewPrivileges": True,
        "rlimits": [],
    }
    # The network is this machine's: whoever is called listens on its loopback. And its cgroups are
    # not to be divided everywhere.
    spec["linux"].pop("resources", None)
    kept = [
        each for each in spec["linux"]["namespaces"] if each["type"] not in ("network", "cgroup")
    ]
    spec["linux"]["namespaces"] = kept
    mounts = [each for each in spec["mounts"] if each["destination"] != "/sys/fs/cgroup"]
    memory = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
    mounts.append(memory | {"options": ["nosuid", "nodev", "noexec", "mode=1777", "size=64m"]})
    for inside, outside in volumes.items():
        os.chown(outside, user, group)
        mounts.append(
            {
                "destination": inside,
                "type": "bind",
                "source": str(outside),
                "options": ["bind", "rw"],
            }
        )
    spec["mounts"] = mounts
    return spec
