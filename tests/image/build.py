"""Building the image with Debian's tools alone: debootstrap makes the base, buildah the rest.

No engine and no registry of images is needed, only root and Debian's packages.
"""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/base"
IMAGE = "localhost/x402jobs"
SUITE = "bookworm"
"""Debian 12: its Python is 3.11."""
PACKAGES = "python3,python3-pip,python3-venv,python-is-python3,ca-certificates"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
NEED = ("debootstrap", "buildah", "runc", "nginx")


def run(*command: str | Path, environment: Mapping[str, str] = {}) -> str:
    """What a program prints. Raises RuntimeError with the end of its complaints."""
    done = subprocess.run(
        command, env=os.environ | dict(environment), capture_output=True, text=True
    )
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).splitlines()[-20:])
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{last}")
    return done.stdout


@dataclass(frozen=True)
class Images:
    """A store of images in a directory of its own."""

    directory: Path

    def buildah(self, *arguments: str | Path, environment: Mapping[str, str] = {}) -> str:
        places = ("--root", self.directory / "storage", "--runroot", self.directory / "running")
        chroot = {"BUILDAH_ISOLATION": "chroot"}  # the others ask for cgroups of their own
        return run("buildah", *places, *arguments, environment={**environment, **chroot})

    def has(self, image: str) -> bool:
        return f"{image}:latest" in self.buildah("images", "--format", "{{.Name}}:{{.Tag}}")

    def make_base(self) -> None:
        """Debian and its Python, with this machine's certificates: a mirror may have its own."""
        root = self.directory / "base"
        shutil.rmtree(root, ignore_errors=True)
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, root)
        # debootstrap leaves its /proc mounted where it cannot tell that it was the one who did.
        subprocess.run(["umount", "--recursive", root / "proc"], capture_output=True)
        shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
        shutil.rmtree(root / "var" / "lib" / "apt" / "lists")
        shutil.rmtree(root / "var" / "cache" / "apt")
        archive = self.directory / "base.tar"
        run("tar", "-C", root, "-cf", archive, ".")
        container = self.buildah("from", "scratch").strip()
        self.buildah("add", container, archive, "/")
        self.buildah("config", "--cmd", "python", container)
        self.buildah("commit", "--rm", container, BASE)
        archive.unlink()
        shutil.rmtree(root)

    def build(self, context: Path, environment: Mapping[str, str] = {}) -> None:
        """The image, by the Dockerfile as it is; steps that have not changed are not repeated."""
        self.buildah(
            *("build", "--format", "docker", "--layers", "--pull-never"),
            *("--build-arg", f"BASE={BASE}", "--tag", IMAGE, context),
            environment=environment,
        )

    def described(self, image: str = IMAGE) -> dict[str, Any]:
        """Everything that an inspection shows: configuration and history."""
        described: dict[str, Any] = json.loads(self.buildah("inspect", "--type", "image", image))
        return described

    def megabytes(self, image: str = IMAGE) -> int:
        """Of the image unpacked."""
        return sum(member.size for _, member in self._members(image)) // 10**6

    def found(self, words: Mapping[str, bytes], image: str = IMAGE) -> list[str]:
        """Where each of these is in a file of any layer, or in the image's description."""
        described = json.dumps(self.described(image)).encode()
        hits = [f"{name}: the description" for name, word in words.items() if word in described]
        for archive, member in self._members(image):
            if member.isfile():
                file = archive.extractfile(member)
                assert file is not None
                content = file.read()
                hits += [
                    f"{name}: {member.name}" for name, word in words.items() if word in content
                ]
        return hits

    def _members(self, image: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        """Every file of every layer, those that a later layer hides too."""
        pushed = self.directory / "pushed"
        shutil.rmtree(pushed, ignore_errors=True)
        self.buildah("push", "--disable-compression", image, f"dir:{pushed}")
        layers = json.loads((pushed / "manifest.json").read_text())["layers"]
        for layer in layers:
            with tarfile.open(pushed / layer["digest"].removeprefix("sha256:")) as archive:
                yield from ((archive, member) for member in archive)
        shutil.rmtree(pushed)

    @contextmanager
    def mounted(self, image: str = IMAGE) -> Iterator[Path]:
        """The image's root file system, as a container's is made."""
        container = self.buildah("from", "--pull-never", image).strip()
        try:
            yield Path(self.buildah("mount", container).strip())
        finally:
            self.buildah("rm", container)


def checkout(to: Path) -> None:
    """A copy of the checkout as it is on this disk, without what git would ignore."""
    listed = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in listed.split("\0"):
        source, target = ROOT / name, to / name
        if name and (source.is_file() or source.is_symlink()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
