"""The nginx configuration we ship, with a test's own places in it, and the real nginx over it."""

import ipaddress
import os
import pwd
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.tools import need

SHIPPED = Path(__file__).parents[1] / "deploy" / "nginx.conf"
FRONTEND = "https://app.example"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def adapted(
    directory: Path,
    port: int,
    *,
    groups: Sequence[str] = ("x402jobs.sock",),
    an_address: int = 500,
    front: str = "",
) -> str:
    """The shipped file with each place, name and user that is marked as the operator's replaced.

    Any other line is the one that runs in production, but for what `front` adds to the server.
    Groups of workers are named by their socket files; `an_address` is how much one may hold open.
    """
    me = pwd.getpwuid(os.getuid()).pw_name
    ours = {
        "user www-data;": f"user {me};",
        "pid /run/nginx.pid;": f"pid {directory}/nginx.pid;",
        "error_log /var/log/nginx/error.log crit;": f"error_log {directory}/error.log crit;",
        "access_log /var/log/nginx/x402jobs.log x402jobs;": (
            f"access_log {directory}/access.log x402jobs;"
        ),
        "listen 443 ssl http2;": f"listen 127.0.0.1:{port} ssl http2;",
        "server_name shop.example;": f"server_name 127.0.0.1; {front}",
        "ssl_certificate /etc/x402jobs/certificate.pem;": f"ssl_certificate {directory}/c.pem;",
        "ssl_certificate_key /etc/x402jobs/certificate-key.pem;": (
            f"ssl_certificate_key {directory}/c.pem;"
        ),
        "server unix:/run/x402jobs/x402jobs.sock max_fails=1 fail_timeout=1s;": "\n".join(
            f"server unix:{directory}/{group} max_fails=1 fail_timeout=1s;" for group in groups
        ),
        "limit_conn addresses 500;": f"limit_conn addresses {an_address};",
        '"https://app.example" $http_origin;': f'"{FRONTEND}" $http_origin;',
    }
    lines = []
    for line in SHIPPED.read_text().splitlines():
        setting, mark, _ = line.partition("  # yours")
        lines.append(ours.pop(setting.strip()) if mark else line)
        if line == "http {":  # the compiled-in ones are root's
            lines += [f"{name}_temp_path {directory}/{name};" for name in TEMPORARY]
    assert not ours, "lines that are not in the file we ship"
    return "\n".join(lines)


def certificate(days: float = 1) -> bytes:
    """A fresh key and its own certificate, which is good for so long."""
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
    return signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@contextmanager
def nginx(directory: Path, port: int, **how: Any) -> Iterator[None]:
    """The shipped configuration, `adapted`, with a certificate of its own."""
    (directory / "c.pem").write_bytes(certificate())
    with running(directory, adapted(directory, port, **how)):
        yield


@contextmanager
def running(directory: Path, configuration: str) -> Iterator[None]:
    """The real nginx, as a process of ours. It may not listen yet."""
    (directory / "nginx.conf").write_text(configuration)
    command = [need("nginx"), "-p", str(directory), "-c", str(directory / "nginx.conf")]
    tried = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr
    process = subprocess.Popen(
        [*command, "-g", "daemon off;"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # before its own log is open: it complains of not being root
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
