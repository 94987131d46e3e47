"""A secret that is left behind is found, wherever a server has left it."""

import base64
import json
from pathlib import Path

from tests.hostile.canaries import search
from tests.wire.conftest import PLANTED_FILE

SECRET = "sk-ant-planted-and-found"


def test_what_a_server_has_left_behind_is_searched_and_what_a_test_keeps_is_not(
    tmp_path: Path,
) -> None:
    home, a_tests = tmp_path / "run" / "wire0", tmp_path / "run" / "test_of_a_customer"
    for directory in (home / "data", a_tests, tmp_path / "x402jobs-metrics"):
        directory.mkdir(parents=True)
    (home / PLANTED_FILE).write_text(json.dumps({"a key": SECRET}))
    (home / "wallet.key").write_text(SECRET)
    (a_tests / "program.mjs").write_text(SECRET)
    assert search(tmp_path)[3] == []

    (home / "data" / "x402jobs.sqlite3-wal").write_bytes(b"\0" + SECRET.encode() + b"\0")
    (tmp_path / "x402jobs-metrics" / "counter.db").write_bytes(base64.b64encode(SECRET.encode()))
    files, _, secrets, findings = search(tmp_path)

    assert (files, secrets) == (2, 1)
    assert {each.partition(": ")[0] for each in findings} == {
        "run/wire0/data/x402jobs.sqlite3-wal",
        "x402jobs-metrics/counter.db",
    }
