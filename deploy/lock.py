"""The image's lock files: every wheel that may go into it, by version and SHA-256."""

import configparser
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ROOT / "deploy" / "requirements.lock"
BUILD = ROOT / "deploy" / "build.lock"
HEADER = """\
# {what}: written by `make lock` from {source} and constraints.txt.
# A wheel that is not named here, by the SHA-256 of its bytes, is not installed.
"""

PYTHONS = ("3.11.0", "3.11.99", "3.12.0", "3.12.99", "3.13.0", "3.13.99")
"""The first release of each and a late one: some dependencies are needed by early ones alone."""
MACHINES = ("x86_64", "aarch64")
GLIBC = 36
"""The minor version of Debian 12's C library: a wheel that asks for more does not start there."""


class LockError(Exception):
    """The lock cannot be written; the sentence names the package and the mend."""


@dataclass(frozen=True)
class Target:
    """A base that the image may stand on: CPython on Linux with the GNU C library."""

    python: str
    machine: str

    @property
    def environment(self) -> dict[str, str]:
        """What a requirement's marker is asked against."""
        here = {name: str(value) for name, value in default_environment().items()}
        return here | {
            "implementation_name": "cpython",
            "implementation_version": self.python,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": self.python,
            "python_version": self.python.rpartition(".")[0],
            "sys_platform": "linux",
        }

    @cached_property
    def tags(self) -> frozenset[Tag]:
        """What a wheel's name may say to be installed here."""
        major, minor, _ = (int(each) for each in self.python.split("."))
        platforms = [f"manylinux_2_{libc}_{self.machine}" for libc in range(5, GLIBC + 1)]
        platforms += [f"manylinux{old}_{self.machine}" for old in ("1", "2010", "2014")]
        ours = [*platforms, f"linux_{self.machine}"]
        interpreter = f"cp{major}{minor}"
        return frozenset(
            [
                *cpython_tags((major, minor), platforms=ours),
                *compatible_tags((major, minor), interpreter, ours),
            ]
        )


TARGETS = tuple(Target(python, machine) for python in PYTHONS for machine in MACHINES)


def runtime_requirements() -> list[str]:
    """What setup.cfg says that serving needs."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options"]["install_requires"].splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def build_requirements() -> list[str]:
    """What pyproject.toml says that making the package needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requires: list[str] = project["build-system"]["requires"]
    return requires


def constraints() -> dict[str, str]:
    """The version of each package in constraints.txt."""
    return pins((ROOT / "constraints.txt").read_text())


def pins(text: str) -> dict[str, str]:
    """Name and version of every package that a requirements file pins, hashed or not."""
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def resolve(requirements: Iterable[str]) -> list[dict[str, Any]]:
    """Every package that these need on any system, with all the wheels of its version.

    Raises LockError when there is no such set, or a package of it comes only as source.
    """
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet", "--no-header"]
    command += ["--constraints", "constraints.txt", "--universal", "--python-version", "3.11"]
    command += ["--no-build", "--format", "pylock.toml"]
    done = subprocess.run(
        command, cwd=ROOT, input="\n".join(requirements), capture_output=True, text=True
    )
    if done.returncode:
        raise LockError(done.stderr.strip())
    packages: list[dict[str, Any]] = tomllib.loads(done.stdout)["packages"]
    return packages


def locked(packages: Iterable[Mapping[str, Any]], pinned: Mapping[str, str]) -> Iterator[str]:
    """The lock's entry for each package that some target needs.

    Raises LockError for one that constraints.txt does not pin, and for one without a wheel.
    """
    for package in packages:
        name, version = package["name"], package["version"]
        marker = package.get("marker")
        needing = [
            each for each in TARGETS if marker is None or Marker(marker).evaluate(each.environment)
        ]
        if not needing:
            continue
        if pinned.get(canonicalize_name(name)) != version:
            raise LockError(f"{name}=={version} is not in constraints.txt; add it")
        hashes = sorted({digest for each in needing for digest in _wheels(package, each)})
        only_for = "" if len(needing) == len(TARGETS) else f" ; {marker}"
        pin = f"{name}=={version}{only_for}"
        yield " \\\n".join([pin, *(f"    --hash=sha256:{digest}" for digest in hashes)])


def _wheels(package: Mapping[str, Any], target: Target) -> list[str]:
    """The SHA-256 of every wheel that may be installed on the target: one, or several."""
    fitting = []
    for wheel in package["wheels"]:
        file = wheel.get("name") or wheel["url"].rpartition("/")[2]
        if parse_wheel_filename(file)[3] & target.tags:
            fitting.append(wheel["hashes"]["sha256"])
    if not fitting:
        raise LockError(
            f"{package['name']}=={package['version']} has no wheel for Python {target.python} on "
            f"{target.machine} Linux; choose a version that has"
        )
    return fitting


def text(what: str, source: str, requirements: Iterable[str]) -> str:
    """A whole lock file."""
    entries = locked(resolve(requirements), constraints())
    return HEADER.format(what=what, source=source) + "\n".join(entries) + "\n"


def direct(requirements: Iterable[str]) -> dict[str, str]:
    """The version of each package that is named as needed, in one exact version."""
    parsed = [Requirement(each) for each in requirements]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in parsed}


def main() -> None:
    try:
        runtime = text("What the image runs", "setup.cfg", runtime_requirements())
        build = text("What builds the package", "pyproject.toml", build_requirements())
    except LockError as error:
        sys.exit(f"make lock: {error}")
    RUNTIME.write_text(runtime)
    BUILD.write_text(build)
    for each in (RUNTIME, BUILD):
        print(f"{each.relative_to(ROOT)}: {len(pins(each.read_text()))} packages")


if __name__ == "__main__":
    main()
