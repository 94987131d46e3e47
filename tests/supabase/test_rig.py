"""The project under the Supabase tests starts anywhere, fails on demand, and leaves nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import jwt
import pytest

from tests.supabase import front, jwks
from tests.supabase.front import Fault, answer
from tests.supabase.postgres import of_the_machine, of_the_wheel
from tests.supabase.rig import Rig, rig
from tests.tools import without
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
ADA = "00000000-0000-4000-8000-00000000ada0"


def ask(rig: Rig, given: str = ADA, key: str | None = None, **options: float) -> httpx.Response:
    headers = {"apikey": key or rig.secret_key, "Authorization": f"Bearer {key or rig.secret_key}"}
    url = f"{rig.url}/rest/v1/rpc/x402_uuid"
    return httpx.post(url, json={"given": given}, headers=headers, trust_env=False, **options)


@pytest.mark.parametrize("programs", [of_the_machine, of_the_wheel])
def test_a_project_stands_on_either_postgresql(programs) -> None:
    found = programs() or without("postgresql", f"there is no PostgreSQL {programs.__name__}")

    with rig(found) as running:
        said = ask(running)
        running.postgres.stop()
        running.postgres.start()
        again = eventually(lambda: ask(running).status_code == 200)

    assert (said.status_code, said.json(), again) == (200, ADA, True)


@contextmanager
def by_hand(*arguments: str, **options) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "tests.supabase", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            yield process
            process.wait(120)
        except BaseException:
            process.kill()
            raise


def listens(url: str) -> bool:
    port = int(url.partition("://")[2].rpartition(":")[2].partition("/")[0])
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_by_hand_it_says_what_to_export_and_all_of_it_ends_when_told(how, for_all) -> None:
    with by_hand(env={**os.environ, "TMPDIR": str(for_all)}) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        told = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines[:2])
        database = lines[3].rpartition(" ")[2]
        stood = [listens(each) for each in (told["SUPABASE_URL"], database)]
        process.send_signal(how)
        process.wait(90)

    assert set(told) == {"SUPABASE_URL", "SUPABASE_SECRET_KEY"}
    assert stood == [True, True]
    assert process.returncode == 0
    assert [listens(each) for each in (told["SUPABASE_URL"], database)] == [False, False]
    assert list(for_all.iterdir()) == []


@pytest.fixture
def for_all() -> Iterator[Path]:
    """A directory where PostgreSQL, which refuses to be root, can get to; pytest's are private."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_by_hand_it_lends_itself_to_one_command() -> None:
    script = "import os, sys; sys.exit(7 * os.environ['SUPABASE_URL'].startswith('http://127.'))"

    with by_hand("run", sys.executable, "-c", script) as process:
        pass

    assert process.returncode == 7


@pytest.fixture
def edge(rig: Rig):
    """The rig's front, well again before and after."""
    rig.front.forget()
    yield rig.front
    assert eventually(lambda: rig.front.at_once == 0)  # what is late comes still
    rig.front.forget()


def test_the_front_passes_everything_on_and_remembers_the_names(rig, edge) -> None:
    said = [ask(rig), ask(rig, "é" * 2_000_000), ask(rig, key="sb_secret_wrong")]

    assert [each.status_code for each in said] == [200, 200, 401]
    assert [each.json() for each in said[:2]] == [ADA, None]
    assert edge.asked == ["x402_uuid"] * 3


def test_the_front_hangs_up_after_so_many_answers_and_when_told(rig, edge) -> None:
    edge.turnover = 2
    with httpx.Client(trust_env=False) as client:
        client.get(f"{rig.url}{jwks.PATH}")
        left_open = edge.lines
        client.get(f"{rig.url}{jwks.PATH}")
        assert eventually(lambda: not edge.lines)
        client.get(f"{rig.url}{jwks.PATH}")
        edge.hang_up()
        assert eventually(lambda: not edge.lines)

    assert (left_open, edge.connections) == (1, 2)


WRITE = {"user_id": ADA}


def write(rig: Rig, **options: float) -> httpx.Response:
    headers = {"apikey": rig.secret_key, "Authorization": f"Bearer {rig.secret_key}"}
    url = f"{rig.url}/rest/v1/rpc/x402_know"
    with httpx.Client(trust_env=False, headers=headers, **options) as client:
        return client.post(url, json=WRITE)


@pytest.mark.parametrize(
    ("fault", "meets", "happened"),
    [
        (front.LOST, httpx.RemoteProtocolError, True),
        (front.LOST_BY_RESET, httpx.ReadError, True),
        (front.NEVER_CAME, httpx.RemoteProtocolError, False),
        (Fault(length=60), httpx.RemoteProtocolError, True),
        (Fault(seconds=1), httpx.ReadTimeout, False),
        (Fault(late_seconds=1), httpx.ReadTimeout, True),
        (front.page(504, carried_out=True), 504, True),
        (front.page(502), 502, False),
        (Fault(carried_out=False, says=answer(540, "paused")), 540, False),
    ],
)
def test_the_front_fails_as_it_is_told_and_once(rig, edge, fault, meets, happened) -> None:
    rig.empty()
    edge.meet(fault)

    if isinstance(meets, int):
        assert write(rig).status_code == meets
    else:
        with pytest.raises(meets):
            write(rig, timeout=0.4)

    assert bool(rig.sql("select from profiles")) is happened
    assert write(rig).status_code == 204


def test_the_front_delivers_a_request_a_second_time(rig, edge) -> None:
    rig.empty()
    edge.meet(Fault(again=0.05))

    write(rig)
    rig.empty()

    assert eventually(lambda: rig.sql("select from profiles"))


def test_the_front_refuses_connections_and_takes_them_again(rig, edge) -> None:
    with edge.refusing(), pytest.raises(httpx.ConnectError):
        ask(rig)

    assert ask(rig).status_code == 200


def test_who_signs_up_is_given_a_token_that_the_published_key_opens(rig) -> None:
    who = {"email": "ada@example.com", "password": "correct horse"}
    signed_up = httpx.post(f"{rig.url}/auth/v1/signup", json=who, trust_env=False).json()
    door = f"{rig.url}/auth/v1/token?grant_type=password"
    signed_in = httpx.post(door, json=who, trust_env=False).json()
    wrong = httpx.post(door, json=who | {"password": "x"}, trust_env=False)

    (key,) = httpx.get(f"{rig.url}{jwks.PATH}", trust_env=False).json()["keys"]
    for session in (signed_up, signed_in):
        read = jwt.decode(
            session["access_token"],
            jwt.PyJWK(key),
            algorithms=["ES256"],
            audience="authenticated",
            issuer=f"{rig.url}/auth/v1",
        )
        assert read["sub"] == session["user"]["id"] == signed_up["user"]["id"]
    assert (wrong.status_code, json.loads(wrong.text)["error_code"]) == (400, "invalid_credentials")
