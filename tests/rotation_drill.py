"""Rotating under load: readers and writers at work, the rotation killed again and again.

`python -m tests.rotation_drill --rows 10000 --kills 10` prints what came of it.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests import origin
from tests.contract.conftest import HAIKU, SqliteWorker, bought
from x402jobs.adapters.key_ring import KeyRing, KeyRingFile
from x402jobs.adapters.origin_cipher import OriginCipher
from x402jobs.adapters.secret_box import RingSecretBox
from x402jobs.domain.errors import StoreUnavailable, Unreadable
from x402jobs.domain.execution import State
from x402jobs.services.integrations import claude_key_place
from x402jobs.services.rotation import Rotation, Standing
from x402jobs.services.runs import answer_place
from x402jobs.services.settlement import payment_place
from x402jobs.services.templates import prompt_place

PLACES = (claude_key_place, prompt_place, payment_place, answer_place)
NEW = "k3"
"""The key that is made while readers and writers are at work."""
BATCH = 25
PAUSE_SECONDS = 0.002
"""Between a server's turns. Without one SQLite, which lets nobody queue, starves the others."""


@dataclass
class Server(SqliteWorker):
    """What of a server reads and writes sealed values: the real adapters over the ring's file."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ring = KeyRingFile(self.data / "keys")
        self.box = RingSecretBox(ring, OriginCipher(origin.SECRET))
        self.rotation = Rotation(self.sealed, self.box, PLACES)

    def read(self, chance: random.Random) -> int:
        """Open a few values from anywhere, each of which tells whose it is; how many."""
        place_of = chance.choice(PLACES)
        spot = place_of("")
        page = self.sealed.page(spot.table, spot.column, f"{chance.randrange(10**6):06}", 5)
        for value in page:
            text = self.box.open(value.sealed, place_of(value.owner)).reveal()
            assert f" {value.row} " in f" {text} ".replace("-", " "), (spot, value.row)
        return len(page)


def fill(data: Path, rows: int) -> None:
    """So many values, a quarter in each column, under two old keys and in the origin's forms."""
    server = Server(data)
    ring = KeyRingFile(data / "keys")
    first = server.box
    old = RingSecretBox(KeyRing(ring.latest().text("k1")))
    ring.add()
    ada = server.catalogue.add_user("ada")
    server.keys.put_claude_key(ada, "to be copied")
    server.catalogue.add_template(replace(HAIKU, owner_id=ada))
    claim = server.ledger.claim(bought())
    assert claim is not None
    server.ledger.swap(claim, claim.become(State.SETTLING), sealed_payment="to be copied")
    server.database.close()

    with closing(sqlite3.connect(data / "x402jobs.sqlite3")) as connection, connection:
        connection.row_factory = sqlite3.Row
        tables = ("profiles", "x402_user_claude_configs", "x402_resources", "x402_executions")
        user, config, template, execution = (
            dict(connection.execute(f"SELECT * FROM {table}").fetchone()) for table in tables
        )
        ids = [f"{number:06}" for number in random.Random(1).sample(range(10**6), rows // 4)]
        for number, row in enumerate(ids):
            box = (old, first)[number % 2]
            key, prompt = f"sk-ant-{row}-0", f"{row} 0"
            sealed_key = box.seal(key, claude_key_place(row))
            sealed_prompt = box.seal(prompt, prompt_place(row))
            if number % 3 == 0:
                sealed_key, sealed_prompt = origin.sealed(key), prompt
            insert(connection, "profiles", user, id=row, username=f"u{row}")
            insert(
                connection,
                "x402_user_claude_configs",
                config,
                user_id=row,
                api_key_encrypted=sealed_key,
            )
            insert(
                connection,
                "x402_resources",
                template,
                id=row,
                registered_by=row,
                pt_system_prompt=sealed_prompt,
            )
            insert(
                connection,
                "x402_executions",
                execution,
                id=row,
                claim_key=row,
                sealed_payment=box.seal(f"{row} 0", payment_place(row)),
            )
            insert(
                connection,
                "x402_answers",
                {},
                execution_id=row,
                sealed_answer=box.seal(f"{row} {'words ' * 300}", answer_place(row)),
            )
        for table, column in (
            ("x402_user_claude_configs", "user_id"),
            ("x402_resources", "registered_by"),
            ("x402_executions", "id"),
        ):
            last = ada if column != "id" else claim.id
            connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (last,))


def insert(connection: sqlite3.Connection, table: str, like: dict[str, Any], **other: Any) -> None:
    """A row like another one, with changes."""
    row = like | other
    names, marks = ", ".join(f'"{each}"' for each in row), ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


def read_for_ever(data: Path, seed: int) -> Iterator[dict[str, int]]:
    server, chance, said = Server(data), random.Random(seed), {"read": 0, "unreadable": 0}
    while True:
        try:
            said["read"] += server.read(chance)
        except Unreadable:
            said["unreadable"] += 1
        yield said


def write_for_ever(data: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Save keys, as creators do; sell, as the shop does; remember what the store has taken."""
    server, chance = Server(data), random.Random(seed)
    spot = claude_key_place("")
    users = [each.row for each in server.sealed.page(spot.table, spot.column, "", 10**6)]
    said: dict[str, Any] = {"written": 0, "busy": 0, "keys": {}, "answers": {}}
    front = ""
    while True:
        # Where the rotation is just at work, so that they get in each other's way.
        page = server.sealed.page(spot.table, spot.column, front, BATCH)
        forms = {server.box.form(each.sealed, spot).key_id for each in page}
        if forms == {NEW}:
            front = page[-1].row
        user = chance.choice([each.row for each in page] or users)
        number = said["written"]
        key, place = f"sk-ant-{user}-{number}", claude_key_place(user)
        sold = f"{seed}{number}"
        try:
            server.keys.put_claude_key(user, server.box.seal(key, place))
            said["keys"][user] = key
            claim = bought(id=sold, claim_key=sold, template_id=user)
            assert server.ledger.claim(claim)
            settling = claim.become(State.SETTLING)
            payment = server.box.seal(f"{sold} payment", payment_place(sold))
            server.ledger.swap(claim, settling, sealed_payment=payment)
            settled = settling.become(State.SETTLED, transaction="0x1")
            server.ledger.swap(settling, settled)
            answer = server.box.seal(f"{sold} answer", answer_place(sold))
            server.ledger.swap(settled, settled.become(State.COMPLETED), sealed_answer=answer)
            said["answers"][sold] = f"{sold} answer"
            said["written"] += 1
        except StoreUnavailable:
            said["busy"] += 1
        yield said


def rotate(data: Path, seed: int) -> Iterator[str]:
    """Say after each batch that had something old how many values are sealed anew so far."""
    before = 0

    def tell(_: int, resealed: int) -> None:
        nonlocal before
        if resealed > before:
            before = resealed
            print(resealed, flush=True)

    Server(data).rotation.rotate(BATCH, tell)
    yield "done"


PARTS = {"read": read_for_ever, "write": write_for_ever, "rotate": rotate}


class Part:
    """One process of the drill."""

    def __init__(self, name: str, data: Path, seed: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.rotation_drill", "--part", name, str(data), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> dict[str, Any]:
        """Let it stop and say what it has done."""
        said, _ = self.process.communicate("", timeout=60)
        assert self.process.returncode == 0
        document: dict[str, Any] = json.loads(said)
        return document

    def kill(self) -> int:
        """SIGKILL; the exit status, -9 unless it had ended before."""
        self.process.kill()
        self.process.communicate(timeout=60)
        return self.process.returncode


@dataclass
class Outcome:
    """What came of a drill."""

    read: int
    written: int
    busy: int
    unreadable: int
    before_each_kill: list[int]
    exits: list[int]
    lost: list[str]
    standing: Standing
    seconds: float


def drill(data: Path, rows: int, kills: int, seed: int = 1) -> Outcome:
    """Fill a store, put load on it, make a new key, and rotate until nothing old is left."""
    fill(data, rows)
    chance = random.Random(seed)
    began = time.monotonic()
    reader, writer = Part("read", data, 7), Part("write", data, 8)
    KeyRingFile(data / "keys").add(NEW)
    before_each_kill, exits = [], []
    try:
        for _ in range(kills):
            rotator = Part("rotate", data, 0)
            # Somewhere within its share of the work, which leaves some for every other.
            for _ in range(chance.randint(1, rows // BATCH // (kills + 1))):
                resealed = int(rotator.line())
            time.sleep(chance.random() * 0.01)
            exits.append(rotator.kill())
            before_each_kill.append(resealed)
        last = Part("rotate", data, 0)
        last.process.communicate("", timeout=120)
        exits.append(last.process.returncode)
    finally:
        said, heard = writer.end(), reader.end()
    server = Server(data)
    lost = [
        row
        for texts, spot in ((said["keys"], PLACES[0]), (said["answers"], PLACES[3]))
        for row, text in texts.items()
        if text_at(server, spot, row) != text
    ]
    standing = server.rotation.standing()
    server.database.close()
    return Outcome(
        read=heard["read"],
        written=said["written"],
        busy=said["busy"],
        unreadable=heard["unreadable"],
        before_each_kill=before_each_kill,
        exits=exits,
        lost=lost,
        standing=standing,
        seconds=time.monotonic() - began,
    )


def text_at(server: Server, place_of: Any, row: str) -> str:
    spot = place_of(row)
    with closing(sqlite3.connect(server.data / "x402jobs.sqlite3")) as connection:
        column = "user_id" if place_of is claude_key_place else "execution_id"
        sql = f"SELECT {spot.column} FROM {spot.table} WHERE {column} = ?"
        (sealed,) = connection.execute(sql, (row,)).fetchone()
    return server.box.open(sealed, spot).reveal()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        outcome = drill(Path(directory) / "data", arguments.rows, arguments.kills, arguments.seed)
    for name, value in vars(outcome).items():
        print(f"{name:17} {value}")


def play(name: str, data: Path, seed: int) -> None:
    """One part: told to stop by the end of its input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_blocking(sys.stdin.fileno(), False)
    part: Iterator[Any] = PARTS[name](data, seed)
    if name == "rotate":
        print("ready", flush=True)
    said = next(part)
    if name != "rotate":  # a server, which has read its ring before the new key is made
        print("ready", flush=True)
        while sys.stdin.buffer.raw.read(1) != b"":  # type: ignore[attr-defined]
            time.sleep(PAUSE_SECONDS)
            said = next(part)
    print(json.dumps(said))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        play(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
