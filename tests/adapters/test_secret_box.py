"""Secrets at rest: sealed under a key ring, bound to their place."""

import base64
import os
import stat
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from x402jobs.adapters.secret_box import KeyRing, RingSecretBox
from x402jobs.domain.errors import Unreadable
from x402jobs.ports import Place

PLACE = Place("x402_user_claude_configs", "api_key_encrypted", "ada")
CANARY = "sk-ant-canary"


def entry(key_id="k1", seed=1, length=32):
    key = bytes((seed * 7 + number) % 256 for number in range(length))
    return f"{key_id}:{base64.b64encode(key).decode()}"


BOX = RingSecretBox(KeyRing(entry()))


@pytest.mark.parametrize(
    "text", ["", "a", CANARY, "日本語 🌧", "\x00", "a" * 1_000_000, "half \ud83c a pair", "\udf27"]
)
def test_what_was_sealed_is_opened_as_it_was(text):
    sealed = BOX.seal(text, PLACE)

    assert sealed.startswith("v1.k1.")
    assert sealed.isascii()
    assert BOX.open(sealed, PLACE).reveal() == text


@given(st.text(st.characters()))
@settings(deadline=None)
def test_every_text_survives_even_half_a_surrogate_pair(text):
    assert BOX.open(BOX.seal(text, PLACE), PLACE).reveal() == text


def test_one_text_is_never_sealed_twice_alike():
    assert len({BOX.seal(CANARY, PLACE) for _ in range(100)}) == 100


@pytest.mark.parametrize("text", ["", "a", "ab", "abc"])
def test_a_change_of_any_single_character_is_refused(text):
    """All base64 remainders: the last character of a group has bits that decoders ignore."""
    sealed = BOX.seal(text, PLACE)
    alphabet = "AZaz09-_+/=. \n\x00év1k2"

    for place, right in enumerate(sealed):
        for wrong in {*alphabet, chr(ord(right) + 1), chr(ord(right) ^ 1)} - {right}:
            with pytest.raises(Unreadable):
                BOX.open(sealed[:place] + wrong + sealed[place + 1 :], PLACE)


def test_nothing_opens_with_a_character_more_or_less():
    sealed = BOX.seal(CANARY, PLACE)

    for place in range(len(sealed)):
        with pytest.raises(Unreadable):
            BOX.open(sealed[:place] + sealed[place + 1 :], PLACE)
    for place in range(len(sealed) + 1):
        for more in ("A", "=", ".", " ", "\n"):
            with pytest.raises(Unreadable):
                BOX.open(sealed[:place] + more + sealed[place:], PLACE)


@pytest.mark.parametrize(
    "other",
    [
        {"table": "x402_resources"},
        {"column": "pt_system_prompt"},
        {"owner": "bob"},
        {"owner": "ADA"},
        {"owner": ""},
        {"table": "x402_user_claude_configs\x1fapi_key_encrypted", "column": ""},
    ],
)
def test_a_sealed_text_moved_to_another_place_does_not_open(other):
    with pytest.raises(Unreadable):
        BOX.open(BOX.seal(CANARY, PLACE), replace(PLACE, **other))


@pytest.mark.parametrize(
    "sealed",
    [
        "",
        ".",
        "..",
        "v1",
        "v1.k1",
        "v1.k1.",
        "v1.k1.AAAA",
        "v1.k1." + "A" * 16,
        "v1.k1.ünïcode",
        "v1.k1.\ud800",
        "v2.k1.AAAA",
        "v1.other.AAAA",
        "a plain prompt of the origin's",
        CANARY,
    ],
)
def test_what_we_did_not_seal_does_not_open_and_is_not_quoted(sealed):
    with pytest.raises(Unreadable) as refusal:
        BOX.open(sealed, PLACE)

    assert str(refusal.value) == ""
    assert refusal.value.__cause__ is None


def test_which_key_it_was_cannot_be_talked_over():
    both = RingSecretBox(KeyRing(f"{entry('k1', 1)},{entry('k2', 2)}"))

    with pytest.raises(Unreadable):
        both.open(both.seal(CANARY, PLACE).replace("v1.k1.", "v1.k2."), PLACE)


def test_of_two_keys_the_first_seals_and_both_open():
    old = RingSecretBox(KeyRing(entry("old", 1)))
    both = RingSecretBox(KeyRing(f"{entry('new', 2)} , {entry('old', 1)}\n"))
    new = RingSecretBox(KeyRing(entry("new", 2)))

    sealed_before, sealed_after = old.seal(CANARY, PLACE), both.seal(CANARY, PLACE)

    assert both.open(sealed_before, PLACE).reveal() == CANARY
    assert both.open(sealed_after, PLACE).reveal() == CANARY
    assert new.open(sealed_after, PLACE).reveal() == CANARY
    for box, sealed in ((new, sealed_before), (old, sealed_after)):
        with pytest.raises(Unreadable):
            box.open(sealed, PLACE)


def test_the_same_id_with_another_key_does_not_open():
    with pytest.raises(Unreadable):
        RingSecretBox(KeyRing(entry("k1", 2))).open(BOX.seal(CANARY, PLACE), PLACE)


def test_a_signature_is_the_same_for_the_same_words_and_key_only():
    assert BOX.sign("resume e1") == BOX.sign("resume e1")
    others = {BOX.sign("resume e2"), RingSecretBox(KeyRing(entry(seed=2))).sign("resume e1")}
    assert BOX.sign("resume e1") not in others
    assert len(BOX.sign("resume e1")) == 43


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
    shown = repr(KeyRing(entry())) + repr(BOX)

    assert entry().split(":")[1] not in shown


def test_a_ring_kept_in_a_file_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "data" / "keys"
    before = os.umask(0)
    try:
        sealed = RingSecretBox(KeyRing.at(path)).seal(CANARY, PLACE)
    finally:
        os.umask(before)

    assert RingSecretBox(KeyRing.at(path)).open(sealed, PLACE).reveal() == CANARY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["keys"]


def test_a_ring_in_a_file_that_is_broken_is_not_replaced(tmp_path):
    path = tmp_path / "keys"
    path.write_text("k1:broken\n")

    with pytest.raises(ValueError, match="key ring entry 1"):
        KeyRing.at(path)
    assert path.read_text() == "k1:broken\n"


RACER = """
import sys, time
from pathlib import Path
from x402jobs.adapters.secret_box import KeyRing, RingSecretBox
from x402jobs.ports import Place
path = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(RingSecretBox(KeyRing.at(path)).seal("racer", Place("t", "c", "o")))
"""


def test_of_eight_processes_that_come_at_once_all_end_up_with_one_ring(tmp_path):
    path = tmp_path / "data" / "keys"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(8)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    sealed = [racer.communicate(timeout=60)[0].strip() for racer in racers]

    box = RingSecretBox(KeyRing.at(path))
    assert [box.open(each, Place("t", "c", "o")).reveal() for each in sealed] == ["racer"] * 8
    assert [each.name for each in path.parent.iterdir()] == ["keys"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
