"""The nginx we ship in front of a shop, as it is or as somebody has changed it."""

import ipaddress
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.tools import need
from tests.waiting import eventually

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx.conf"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


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
        text = self._ours()
        for before, after in changes.items():
            assert before in text, f"{before} is not in the file we ship"
            text = text.replace(before, after)
        (self.directory / "nginx.conf").write_text(text)
        where = ["-p", str(self.directory), "-c", str(self.directory / "nginx.conf")]
        process = subprocess.Popen(
            [need("nginx"), *where, "-g", "daemon off;"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            assert eventually(self._listens), (self.directory / "error.log").read_text()
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def certify(self, days: float) -> None:
        """A fresh certificate of its own, which is good for so long."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        now = datetime.now(UTC)
        signed = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=100))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.certificate.write_bytes(
            signed.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def _ours(self) -> str:
        """Each place, name and user that is marked as the operator's is this directory's."""
        here = self.directory
        ours = {
            "user": pwd.getpwuid(os.getuid()).pw_name,
            "pid": f"{here}/nginx.pid",
            "error_log": f"{here}/error.log crit",
            "access_log": f"{here}/access.log x402jobs",
            "listen": f"127.0.0.1:{self.port} ssl http2",
            "server_name": "127.0.0.1",
            "ssl_certificate": self.certificate,
            "ssl_certificate_key": self.certificate,
            "server": f"unix:{here}/x402jobs.sock",
        }
        lines = []
        for line in SHIPPED.read_text().splitlines():
            setting, mark, _ = line.partition("  # yours")
            word = setting.split()[0] if mark else ""
            lines.append(f"{word} {ours[word]};" if word in ours else line)
            if line == "http {":  # the compiled-in ones are root's
                lines += [f"{name}_temp_path {here}/{name};" for name in TEMPORARY]
        return "\n".join(lines)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
