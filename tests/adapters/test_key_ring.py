"""The keys that secrets are sealed with: read, made, followed, added and removed."""

import base64
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import structlog.testing

from tests.adapters.test_secret_box import CANARY, PLACE, entry
from x402jobs.adapters import key_ring
from x402jobs.adapters.key_ring import SETTLING_SECONDS, KeyRing, KeyRingFile
from x402jobs.adapters.secret_box import RingSecretBox
from x402jobs.domain.errors import Unreadable

WEAK = base64.b64encode(b"\x00" * 32).decode()


@pytest.mark.parametrize(
    ("ring", "place"),
    [
        ("", 1),
        ("k1", 1),
        ("k1:", 1),
        (":" + entry().split(":")[1], 1),
        ("k1:" + CANARY, 1),
        ("k1:ünïcode", 1),
        (entry("k 1"), 1),
        (entry("k.1"), 1),
        (entry("k" * 33), 1),
        (entry(length=31), 1),
        (entry(length=33), 1),
        (entry(length=16), 1),
        (f"k1:{WEAK}", 1),
        (entry() + ",", 2),
        (f"{entry()},{entry('k1', 2)}", 2),
        (f"{entry()},{entry('k2', 2)},k3:{CANARY}", 3),
        (f"{entry()};{entry('k2', 2)}", 1),
    ],
)
def test_a_malformed_or_weak_ring_names_the_entry_and_never_its_value(ring, place):
    with pytest.raises(ValueError) as refusal:
        KeyRing(ring)

    said = str(refusal.value)
    assert f"key ring entry {place} is" in said
    assert CANARY not in said
    assert not any(len(part) > 8 and part in said for part in ring.replace(":", ",").split(","))


def test_neither_a_ring_nor_a_box_shows_its_keys():
    shown = repr(KeyRing(entry())) + repr(RingSecretBox(KeyRing(entry())))

    assert entry().split(":")[1] not in shown


def test_a_ring_kept_in_a_file_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "data" / "keys"
    before = os.umask(0)
    try:
        sealed = RingSecretBox(KeyRingFile(path)).seal(CANARY, PLACE)
    finally:
        os.umask(before)

    assert RingSecretBox(KeyRingFile(path)).open(sealed, PLACE).reveal() == CANARY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["keys"]


def test_a_ring_in_a_file_that_is_broken_is_not_replaced(tmp_path):
    path = tmp_path / "keys"
    path.write_text("k1:broken\n")

    with pytest.raises(ValueError, match="key ring entry 1"):
        KeyRingFile(path)
    assert path.read_text() == "k1:broken\n"


RACER = """
import sys
from pathlib import Path
from tests.adapters.test_secret_box import PLACE
from x402jobs.adapters.key_ring import KeyRingFile
from x402jobs.adapters.secret_box import RingSecretBox
path = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(RingSecretBox(KeyRingFile(path)).seal("racer", PLACE))
"""


def test_of_eight_processes_that_come_at_once_all_end_up_with_one_ring(tmp_path):
    path = tmp_path / "data" / "keys"
    sealed = let_go(started(RACER, path, 8))

    box = RingSecretBox(KeyRingFile(path))
    assert [box.open(each, PLACE).reveal() for each in sealed] == ["racer"] * 8
    assert [each.name for each in path.parent.iterdir()] == ["keys"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "keys"


@pytest.fixture
def ring(path):
    return KeyRingFile(path)


def aged(path, seconds=2 * SETTLING_SECONDS):
    """The file as if it had been changed so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def neighbours(path):
    return sorted(each.name for each in path.parent.iterdir())


def test_a_new_key_is_primary_and_the_others_stay_for_reading(path, ring):
    before = path.read_text().strip()

    added = [ring.add(), ring.add("spring-2027"), ring.add()]

    assert added == ["k2", "spring-2027", "k3"]
    assert KeyRing(path.read_text()).ids == ("k3", "spring-2027", "k2", "k1")
    assert path.read_text().endswith(f",{before}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert neighbours(path) == ["keys"]


@pytest.mark.parametrize(
    ("ids", "fresh"),
    [
        (["k1"], "k2"),
        (["k2", "k1"], "k3"),
        (["k1", "k9"], "k10"),
        (["spring"], "k1"),
        (["k", "kx", "K7", "k-3", "k4x"], "k1"),
    ],
)
def test_an_unnamed_key_takes_the_next_number(ids, fresh):
    ring = KeyRing(",".join(entry(each, seed) for seed, each in enumerate(ids, start=1)))

    assert ring.fresh_entry().partition(":")[0] == fresh
    assert KeyRing(ring.fresh_entry()).ids == (fresh,)
    assert ring.fresh_entry() != ring.fresh_entry()


@pytest.mark.parametrize(
    ("key_id", "says"),
    [
        ("k1", "already has a key k1"),
        ("", "1 to 32 letters"),
        ("k.2", "1 to 32 letters"),
        ("k,2", "1 to 32 letters"),
        ("k\n", "1 to 32 letters"),
        ("k" * 33, "1 to 32 letters"),
    ],
)
def test_an_id_that_is_taken_or_none_changes_nothing(path, ring, key_id, says):
    before = path.read_text()

    with pytest.raises(ValueError, match=says):
        ring.add(key_id)
    assert path.read_text() == before


def test_a_new_key_is_on_disk_before_anybody_could_seal_with_it(path, ring, monkeypatch):
    written = []
    write = key_ring.replace_private_file
    monkeypatch.setattr(
        key_ring, "replace_private_file", lambda *file: (write(*file), written.append(file[1]))
    )

    ring.add()

    first, last = (KeyRing(text) for text in written)
    assert (first.ids, last.ids) == (("k1", "k2"), ("k2", "k1"))
    assert first["k2"] == last["k2"]


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
@pytest.mark.parametrize("nth", [1, 2])
def test_no_key_is_lost_when_adding_one_is_cut_short(path, ring, monkeypatch, step, nth):
    sealed = RingSecretBox(ring).seal(CANARY, PLACE)
    calls, real = [], getattr(os, step)

    def fail(*arguments, **options):
        if "draft" in f"{arguments}" or step == "fsync":
            calls.append(arguments)
            if len(calls) == nth:
                raise OSError("cut short")
        return real(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, step, fail)
        with pytest.raises(OSError, match="cut short"):
            ring.add()

    assert len(calls) == nth
    assert RingSecretBox(KeyRingFile(path)).open(sealed, PLACE).reveal() == CANARY
    added = ring.add()
    assert RingSecretBox(KeyRingFile(path)).open(sealed, PLACE).reveal() == CANARY
    assert ring.latest().primary == added
    assert neighbours(path) == ["keys"]


ADDER = """
import sys
from pathlib import Path
from x402jobs.adapters.key_ring import KeyRingFile
ring = KeyRingFile(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(*(ring.add() for _ in range(5)))
"""


def test_keys_added_by_many_at_once_are_all_kept(path, ring):
    said = let_go(started(ADDER, path, 4))

    added = [each for line in said for each in line.split()]

    assert sorted(added, key=lambda each: int(each[1:])) == [f"k{n}" for n in range(2, 22)]
    assert sorted(KeyRing(path.read_text()).ids) == sorted(["k1", *added])


def started(script, path, count):
    """So many processes of this script, all of them ready."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(count)
    ]
    for each in processes:
        assert each.stdout.readline() == "ready\n"
    return processes


def let_go(processes):
    """What each has printed once all were told to begin."""
    for each in processes:
        each.stdin.write("go\n")
        each.stdin.flush()
    return [each.communicate(timeout=60)[0].strip() for each in processes]


def test_a_running_server_seals_with_a_new_primary_at_once(path, ring):
    server = RingSecretBox(ring)
    assert server.seal(CANARY, PLACE).startswith("v1.k1.")

    KeyRingFile(path).add()

    assert server.seal(CANARY, PLACE).startswith("v1.k2.")
    assert server.key_ids == ("k2", "k1")


def test_a_running_server_opens_at_once_what_a_new_key_has_sealed(path, ring):
    server, other = RingSecretBox(ring), KeyRingFile(path)
    other.add()

    assert server.open(RingSecretBox(other).seal(CANARY, PLACE), PLACE).reveal() == CANARY


def test_a_server_still_opens_what_it_sealed_before_its_key_was_removed_elsewhere(path, ring):
    server = RingSecretBox(ring)
    sealed = server.seal(CANARY, PLACE)
    other = KeyRingFile(path)
    other.add()
    aged(path)
    other.remove(["k1"])

    assert server.open(sealed, PLACE).reveal() == CANARY


def test_the_file_is_read_once_for_each_change_and_not_for_every_unknown_key(
    path, ring, monkeypatch
):
    server, reads, read = RingSecretBox(ring), [], Path.read_text

    def counted(self, *options):
        reads.append(self.name)
        return read(self, *options)

    def use():
        for number in range(50):
            server.seal(CANARY, PLACE)
            with pytest.raises(Unreadable):
                server.open(f"v1.unknown{number}.AAAA", PLACE)

    use()
    monkeypatch.setattr(Path, "read_text", counted)
    use()
    assert reads == []

    aged(path)
    use()
    assert reads == ["keys"]


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_text(f"k9:{CANARY}\n"),
        lambda path: path.write_text(""),
        lambda path: path.write_bytes(b"k9:\xff"),
        lambda path: path.unlink(),
    ],
)
def test_a_server_keeps_its_last_good_ring_while_the_file_is_broken_or_gone(path, ring, harm):
    server, good = RingSecretBox(ring), path.read_text()
    sealed = server.seal(CANARY, PLACE)

    harm(path)
    with structlog.testing.capture_logs() as logged:
        assert server.seal(CANARY, PLACE).startswith("v1.k1.")
        assert server.open(sealed, PLACE).reveal() == CANARY

    assert [(each["event"], each["log_level"]) for each in logged] == [
        ("key_ring_not_read", "warning")
    ]
    assert CANARY not in json.dumps(logged)
    path.write_text(f"{entry('k2', 2)},{good}")
    assert server.seal(CANARY, PLACE).startswith("v1.k2.")


def test_keys_that_are_removed_are_gone(path, ring):
    for _ in range(3):
        ring.add()
    kept = {key_id: ring.latest()[key_id] for key_id in ("k4", "k2")}
    aged(path)

    ring.remove(["k1", "k3"])

    left = KeyRing(path.read_text())
    assert left.ids == ("k4", "k2")
    assert {key_id: left[key_id] for key_id in left.ids} == kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("ids", "seconds", "says"),
    [
        (["k2"], 99, "k2 is the primary key"),
        (["k1", "k2"], 99, "k2 is the primary key"),
        (["k3"], 99, "the ring has no key k3"),
        (["k1", "k3"], 99, "the ring has no key k3"),
        (["k1"], 0, "try again in (60|5[0-9]) seconds"),
        (["k1"], SETTLING_SECONDS - 9, "try again in [1-9] seconds"),
    ],
)
def test_a_key_that_may_still_be_needed_is_not_removed(path, ring, ids, seconds, says):
    ring.add()
    aged(path, seconds)
    before = path.read_text()

    with pytest.raises(ValueError, match=says):
        ring.remove(ids)
    assert path.read_text() == before
