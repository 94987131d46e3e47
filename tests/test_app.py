"""The application as a whole: built without a thread or a socket, and always answering in shape."""

import json
import os
import re
import socket
import subprocess
import sys

import pytest

from tests.conftest import Shop

BUILD = """
import json, os, socket, sys, threading
import flask, anthropic, x402jobs.wiring
threads, sockets = [], []
start = threading.Thread.start
threading.Thread.start = lambda self: (threads.append(self.name), start(self))
class Watched(socket.socket):
    def __init__(self, *args, **kwargs):
        sockets.append(1)
        super().__init__(*args, **kwargs)
socket.socket = Watched
from x402jobs.app import create_app
app = create_app()
open_files = [os.readlink(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")
              if os.path.exists(f"/proc/self/fd/{each}")]
ready = {"threads": threads[:], "sockets": len(sockets),
         "stores": [each for each in open_files if "sqlite" in each]}
reply = app.test_client().get("/healthz")
print(json.dumps(ready | {"health": reply.json}))
"""


def test_building_the_application_starts_no_thread_and_opens_no_socket_and_no_store(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BUILD],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(sys.path), "X402JOBS_DATA": str(tmp_path / "data")},
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "threads": [],
        "sockets": 0,
        "stores": [],
        "health": {"status": "ok"},
    }


def test_the_process_says_that_it_is_alive_without_asking_anybody(shop: Shop, monkeypatch):
    def unreachable(*_):
        raise OSError("nobody may be asked")

    monkeypatch.setattr(socket.socket, "connect", unreachable)

    reply = shop.client.get("/healthz")

    assert (reply.status_code, reply.json) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/healthz"), ("GET", "/nowhere"), ("POST", "/@ada/haiku"), ("OPTIONS", "/@ada/haiku")],
)
def test_every_reply_has_a_request_id_of_its_own(shop: Shop, method, path):
    ids = set()
    for _ in range(3):
        reply = shop.client.open(path, method=method, headers={"X-Request-Id": "mine"})
        ids.add(reply.headers["X-Request-Id"])
        if reply.is_json and "requestId" in reply.json:
            assert reply.json["requestId"] == reply.headers["X-Request-Id"]

    assert len(ids) == 3
    assert all(re.fullmatch(r"req_[0-9a-f]{24}", each) for each in ids)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("GET", "/@ada", 404, "NOT_FOUND"),
        ("GET", "/@ada/haiku/more", 404, "NOT_FOUND"),
        ("POST", "/@ada/nothing", 404, "NOT_FOUND"),
        ("POST", "/@nobody/haiku", 404, "NOT_FOUND"),
        ("PUT", "/@ada/haiku", 405, "INVALID_REQUEST"),
        ("DELETE", "/@ada/haiku", 405, "INVALID_REQUEST"),
        ("PATCH", "/@ada/haiku", 405, "INVALID_REQUEST"),
        ("POST", "/healthz", 405, "INVALID_REQUEST"),
    ],
)
def test_what_is_not_there_is_told_in_json(shop: Shop, method, path, status, code):
    reply = shop.client.open(path, method=method)

    assert (reply.status_code, reply.json["code"]) == (status, code)
    assert set(reply.json) == {"error", "code", "requestId"}
    assert reply.json["error"] in (
        "There is nothing at this address.",
        "There is no such template.",
        "This method is not offered here.",
    )
    assert reply.headers["Cache-Control"] == "no-store"
    if status == 405:
        allowed = set(reply.headers["Allow"].split(", "))
        assert {"GET", "HEAD", "OPTIONS"} <= allowed
        assert ("POST" in allowed) is (path == "/@ada/haiku")


@pytest.mark.parametrize("credential", [{}, {"Authorization": "Bearer torn"}])
def test_who_has_to_sign_in_is_told_how(shop: Shop, credential):
    reply = shop.client.get("/auth/me", headers=credential)

    assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_a_bug_of_ours_is_told_in_json_with_a_neutral_sentence(shop: Shop, monkeypatch, capfd):
    def broken(*_):
        raise LookupError("canary")

    monkeypatch.setattr(shop.services.templates, "find", broken)

    reply = shop.client.post("/@ada/haiku", json={"topic": "rain"})

    assert reply.status_code == 500
    assert reply.json == {
        "error": "Execution failed. Please try again.",
        "code": "UNKNOWN",
        "requestId": reply.headers["X-Request-Id"],
    }
    assert reply.headers["Cache-Control"] == "no-store"


def test_services_let_go_of_their_files_and_can_be_used_again(shop: Shop):
    shop.services.close()
    shop.services.close()

    assert shop.client.post("/@ada/haiku").status_code == 402


@pytest.mark.parametrize("path", ["/@ada%00/haiku", "/@ada/haiku%00", "/executions/%00", "/%00"])
def test_a_path_with_a_nul_in_it_leads_nowhere(shop, path):
    reply = shop.client.get(path, headers={"X-Resume-Token": "x"})

    assert (reply.status_code, reply.json["code"]) == (404, "NOT_FOUND")
