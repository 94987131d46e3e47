"""`make image-test`: build the image, look into it, run it strictly, and buy an answer from it.

Debian's buildah builds the Dockerfile over a base of debootstrap's, runc runs what came out, and
the nginx of this machine stands in front with the configuration we ship. Needs root.
"""

import argparse
import base64
import functools
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.conftest import PAY_TO, RAIN, decoded, events, text_of
from tests.image.build import BASE, IMAGE, NEED, ROOT, Images, checkout
from tests.image.container import Container, container
from tests.nginx import nginx
from tests.waiting import eventually, free_port
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.wallet import Wallet, sign

HAIKU = """
name = "Haiku"
priceUsdc = "0.01"
systemPrompt = "A haiku about {topic}{/topic}"
maxTokens = 256

[[parameters]]
name = "topic"
"""
PLANTED = (
    *(".env", "wallet.key", ".x402jobs/keys", "deploy/certificate-key.pem", "deploy/.env"),
    *("x402jobs/.env", "x402jobs/adapters/backup.sqlite3", "migrations/dump.csv"),
)
"""Where people leave secrets in a checkout."""
CLOSED = ("/", "/app", "/app/x402jobs", "/opt/x402jobs", "/usr/bin", "/etc", "/var/tmp")
OPEN = ("/data", "/run/x402jobs", "/tmp", "/dev/shm")
WRITES = """
import sys
for place in sys.argv[1:]:
    try:
        open(place + "/written", "w").close()
        print(place)
    except OSError:
        pass
"""
STATUS = "print(open('/proc/1/status').read())"
FIRST_SECONDS = 60

faults: list[str] = []


def check(sentence: str, holds: bool, detail: object = "") -> None:
    print(f"{'ok  ' if holds else 'FAIL'}  {sentence}{'' if holds else f': {detail}'}", flush=True)
    if not holds:
        faults.append(sentence)


def timed(what: str, work: Callable[[], object]) -> None:
    began = time.monotonic()
    work()
    print(f"      {what}: {time.monotonic() - began:.0f} s", flush=True)


def built(images: Images, work: Path) -> None:
    """The image, built with secrets all around it; none may be in it."""
    context = work / "checkout"
    checkout(context)
    canaries = {place: secrets.token_hex(16) for place in PLANTED}
    for place, word in canaries.items():
        (context / place).parent.mkdir(parents=True, exist_ok=True)
        (context / place).write_text(f"SECRET={word}\n")
    canaries["the environment"] = secrets.token_hex(16)
    around = {name: canaries["the environment"] for name in ("ANTHROPIC_API_KEY", "X402JOBS_KEYS")}
    timed("build", lambda: images.build(context, around))
    forms = {name: word.encode() for name, word in canaries.items()}
    forms |= {f"{name} in base64": base64.b64encode(word)[:-4] for name, word in forms.items()}
    found = images.found(forms)
    check(
        f"none of {len(canaries)} planted secrets is in a layer or in the history", not found, found
    )
    control = images.found({"control": b"x402jobs.worker.Worker"})
    check("and whatever is in a layer is found there", bool(control))
    print(f"      {images.megabytes()} MB unpacked, {images.megabytes(BASE)} MB of it the base's")


def strict(shop: Container) -> None:
    """What the processes may do, asked from inside."""
    status = dict(
        line.split(":\t", 1)
        for line in shop.does("python", "-c", STATUS).stdout.splitlines()
        if ":\t" in line
    )
    check("its first process is user 10001 of group 10001", status["Uid"].split() == ["10001"] * 4)
    check(
        "without a capability, even to gain",
        int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0,
    )
    check("and no program it starts may gain any", status["NoNewPrivs"] == "1")
    written = shop.does("python", "-c", WRITES, *CLOSED, *OPEN).stdout.split()
    check(
        "nothing can be written but the data, the socket's directory and memory",
        written == [*OPEN],
        written,
    )
    pip = shop.does("python", "-m", "pip", "--version")
    everywhere = shop.does(
        "python", "-c", "import shutil; print(shutil.which('pip'), shutil.which('pip3'))"
    )
    check(
        "there is no pip in it", pip.returncode == 1 and everywhere.stdout.split() == ["None"] * 2
    )
    ours = shop.does("python", "-c", "import importlib.util as u; print(u.find_spec('setuptools'))")
    check("nor what built the package", ours.stdout.strip() == "None", ours)


def well(shop: Container) -> bool:
    return shop.does("python", "healthcheck.py").returncode == 0


def is_well_soon(shop: Container) -> bool:
    eventually(lambda: shop.process.poll() is not None or well(shop), FIRST_SECONDS)
    return well(shop)


def opened(shop: Container) -> None:
    """A creator's first day, by the command inside: as `docker exec` would run it."""
    user = shop.does("x402jobs", "user", "add", "ada")
    check("`x402jobs user add` works inside", user.returncode == 0, user.stderr)
    port = shop.does("python", "-c", "import os; print(os.environ['X402JOBS_BIND'])").stdout.strip()
    told = {"X402JOBS_AS": "ada", "X402JOBS_URL": f"http://{port}"}
    for command, says in (
        (("integrations", "claude", "set"), "sk-stand-in\n"),
        (("integrations", "wallet", "set", PAY_TO), ""),
        (("template", "add", "--slug", "haiku", "-"), HAIKU),
    ):
        done = shop.does("x402jobs", *command, says=says, environment=told)
        check(f"`x402jobs {' '.join(command[:2])}` works inside", done.returncode == 0, done.stderr)


def sold(shop: Container, url: str, work: Path, claude: ClaudeServer) -> None:
    """402, pay, stream, receipt: over TLS, through nginx and the socket file."""
    with httpx.Client(base_url=url, verify=False, trust_env=False, timeout=60) as caller:
        quote = caller.post("/@ada/haiku", json=RAIN)
        check("unpaid, it answers 402 with a quote", quote.status_code == 402, quote.text)
        price = decoded(quote.headers["PAYMENT-REQUIRED"])["accepts"][0]
        check(
            "to the creator's wallet, one cent",
            (price["payTo"], price["amount"]) == (PAY_TO, "10000"),
        )
        wallet = Wallet.open(work / "wallet.key")
        claude.script({"text": "Rain on a tin roof"})
        payment = {"PAYMENT-SIGNATURE": sign(wallet, decoded(quote.headers["PAYMENT-REQUIRED"]))}
        answer = caller.post("/@ada/haiku", json=RAIN, headers=payment)
        said = events(answer.content) if answer.status_code == 200 else []
        check("paid, it streams the answer", text_of(said) == "Rain on a tin roof", answer.text)
        check("and ends in `done`", [each["type"] for each in said][-1:] == ["done"])
        receipt = decoded(answer.headers.get("PAYMENT-RESPONSE", base64.b64encode(b"{}").decode()))
        check(
            "with the receipt",
            receipt.get("success") is True and bool(receipt.get("transaction")),
            receipt,
        )
        again = caller.post("/@ada/haiku", json=RAIN, headers=payment)
        check(
            "the same payment buys the same answer again",
            text_of(events(again.content)) == text_of(said),
        )
    ledger = shop.does("x402jobs", "ledger", "check")
    check(
        "`x402jobs ledger check` inside is clean",
        ledger.returncode == 0,
        ledger.stdout + ledger.stderr,
    )


def ran(images: Images, work: Path) -> None:
    config = images.described()["Docker"]["config"]
    for name in ("data", "socket", "nginx"):
        (work / name).mkdir()
    volumes = {"/data": work / "data", "/run/x402jobs": work / "socket"}
    with images.mounted() as root, ClaudeServer(delta_ms=1) as claude:
        # Root may pass; the user in the container has to, up to the root file system.
        for port, bind, directory in (
            (free_port(), None, "by-port"),
            (free_port(), "unix:/run/x402jobs/x402jobs.sock", "by-socket"),
        ):
            url = f"https://127.0.0.1:{port}" if bind else f"http://127.0.0.1:{port}"
            settings = {
                "PUBLIC_URL": url,
                "CLAUDE_URL": claude.url,
                "X402JOBS_BIND": bind or f"127.0.0.1:{port}",
            }
            print(f"      X402JOBS_BIND={settings['X402JOBS_BIND']}", flush=True)
            with container(
                f"x402jobs-{os.getpid()}-{directory}",
                work / directory,
                root,
                config,
                volumes,
                **settings,
            ) as shop:
                healthy = is_well_soon(shop)
                said = shop.log.read_text()[-2000:]
                check("it starts, and its health check passes", healthy, said)
                if not healthy:
                    return
                wrong = {
                    "X402JOBS_BIND": "127.0.0.1:9" if bind is None else "unix:/run/x402jobs/none"
                }
                ill = shop.does("python", "healthcheck.py", environment=wrong)
                check(
                    "where nobody answers the health check exits with 1", ill.returncode == 1, ill
                )
                if bind is None:
                    strict(shop)
                    opened(shop)
                else:
                    others = (work / "socket" / "x402jobs.sock").stat().st_mode & 0o007
                    check("the socket file is for its user and group alone", others == 0)
                    with nginx(work / "socket", port):
                        eventually(functools.partial(listens, port))
                        sold(shop, url, work, claude)
                began = time.monotonic()
                status = shop.stop()
                check("SIGTERM ends it with 0", status == 0, shop.log.read_text()[-2000:])
                print(f"      stopped in {time.monotonic() - began:.1f} s", flush=True)


def listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.image", description=__doc__)
    parser.add_argument("--store", type=Path, default=ROOT / "build" / "image")
    store: Path = parser.parse_args().store
    missing = [program for program in NEED if shutil.which(program) is None]
    if os.geteuid() or missing:
        sys.exit(f"needs root, and on Debian: apt-get install {' '.join(missing or NEED)}")
    store.mkdir(parents=True, exist_ok=True)
    images = Images(store)
    with tempfile.TemporaryDirectory(prefix="x402jobs-image-") as temporary:
        work = Path(temporary)
        work.chmod(0o711)
        if not images.has(BASE):
            timed("base", images.make_base)
        built(images, work)
        ran(images, work)
    print(f"{len(faults)} of the above failed" if faults else f"{IMAGE}: all of the above holds")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
