"""Secrets at rest: sealed under a key ring, bound to their place."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import origin
from tests.origin import VECTOR, VECTOR_KEY
from x402jobs.adapters.key_ring import KeyRing, KeyRingFile
from x402jobs.adapters.origin_cipher import OriginCipher
from x402jobs.adapters.secret_box import RingSecretBox
from x402jobs.domain.errors import Unreadable
from x402jobs.ports import Form, Place

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


RINGS = {
    "the same": (entry(), True),
    "a new primary key": (f"{entry('k2', 2)},{entry()}", True),
    "the key under another id": (entry("k9"), True),
    "the key taken away": (entry("k2", 2), False),
}


@pytest.mark.parametrize("ring", RINGS)
def test_a_signature_holds_as_long_as_its_key_is_on_the_ring(ring):
    text, holds = RINGS[ring]
    signed = BOX.sign("resume e1")

    assert RingSecretBox(KeyRing(text)).is_signed("resume e1", signed) is holds


def test_a_running_server_takes_what_was_signed_before_and_after_a_key_was_added(tmp_path):
    path = tmp_path / "keys"
    server = RingSecretBox(KeyRingFile(path))
    before = server.sign("resume e1")

    KeyRingFile(path).add()
    after = RingSecretBox(KeyRingFile(path)).sign("resume e1")

    assert before != after
    assert server.is_signed("resume e1", after) and server.is_signed("resume e1", before)


@pytest.mark.parametrize("damage", ["", "x", "é", "\x00", "A" * 43, "cut", "longer", "changed"])
def test_a_signature_that_is_none_is_just_that(damage):
    signed = BOX.sign("resume e1")
    damaged = {"cut": signed[:-1], "longer": signed + "A", "changed": signed.swapcase()}

    assert not BOX.is_signed("resume e1", damaged.get(damage, damage))
    assert not BOX.is_signed("resume e2", signed)


KEY_PLACE = replace(PLACE, origin="aes-256-cbc")
PROMPT_PLACE = Place("x402_resources", "pt_system_prompt", "ada", "plaintext")
READER = RingSecretBox(KeyRing(entry()), OriginCipher(origin.SECRET))
LONG_KEY = "sk-ant-api03-" + "aB3_-" * 19 + "AA"


def opens(box, sealed, place=KEY_PLACE):
    try:
        return box.open(sealed, place).reveal()
    except Unreadable as refusal:
        assert (str(refusal), refusal.__cause__) == ("", None)
        return None


def test_the_published_vector_of_the_origins_format_is_read():
    assert origin.sealed(VECTOR_KEY) == VECTOR
    assert opens(READER, VECTOR) == VECTOR_KEY


@pytest.mark.parametrize("length", range(80, 97))
def test_the_origins_keys_of_every_length_are_read(length):
    key = LONG_KEY[:length]

    assert opens(READER, origin.sealed(key, iv=b"an iv by chance.")) == key


def test_without_the_origins_secret_its_rows_are_unreadable():
    assert opens(BOX, VECTOR) is None


def test_no_wrong_secret_opens_a_row_although_some_pass_the_padding():
    """Each padding passes with a chance of 1 in 255: what comes out must look like a key."""
    secrets = [f"wrong {number}" for number in range(3000)]

    assert [each for each in secrets if opens(reader(each), VECTOR)] == []
    assert sum(passes_the_padding(each, VECTOR) for each in secrets) > 3


def reader(secret):
    return RingSecretBox(KeyRing(entry()), OriginCipher(secret))


def passes_the_padding(secret, sealed):
    """By hand: the last byte of what the secret makes of it, n, stands there n times."""
    opened = origin.raw(sealed, secret)
    return 1 <= opened[-1] <= 16 and opened.endswith(opened[-1:] * opened[-1])


@pytest.mark.parametrize(
    "sealed",
    [
        "",
        ":",
        VECTOR_KEY,
        VECTOR.upper(),
        VECTOR.replace(":", ""),
        VECTOR.replace(":", "."),
        VECTOR.split(":")[0],
        VECTOR.split(":")[0] + ":",
        VECTOR[2:],
        VECTOR[:-2],
        VECTOR[:-1] + "g",
        VECTOR + "00",
        VECTOR + ":" + VECTOR.split(":")[0],
        VECTOR + "\n",
        " " + VECTOR,
        VECTOR.replace("a", "\u0661"),
        origin.sealed(""),
        origin.sealed("sk-ant-"),
        origin.sealed("sk-or-v1-other"),
        origin.sealed("SK-ANT-api03-EXAMPLE"),
        origin.sealed(" " + VECTOR_KEY),
        origin.sealed(VECTOR_KEY + "\n"),
        origin.sealed(VECTOR_KEY + "\x00"),
        origin.sealed(VECTOR_KEY.encode() + b"\xff"),
        origin.sealed("sk-ant-ключ"),
    ],
)
def test_what_is_not_exactly_a_claude_key_of_the_origins_is_refused(sealed):
    assert opens(READER, sealed) is None


def test_of_the_origins_rows_only_the_iv_can_be_changed_unnoticed_and_that_breaks_the_key():
    """CBC has no seal: a flipped bit of the iv is a flipped bit of the first 16 characters.

    The first seven of them are checked, so what opens is a key that Claude does not know.
    """
    sealed = origin.sealed(LONG_KEY)
    unnoticed = set()
    for place, right in enumerate(sealed):
        for wrong in set("0123456789abcdefABF:. \x00é") - {right}:
            opened = opens(READER, sealed[:place] + wrong + sealed[place + 1 :])
            if opened is not None:
                unnoticed.add(place // 2)
                changed = [at for at in range(len(LONG_KEY)) if opened[at] != LONG_KEY[at]]
                assert (changed, len(opened)) == ([place // 2], len(LONG_KEY))

    assert unnoticed == set(range(7, 16))


def test_blocks_of_an_origins_row_cannot_be_dropped_doubled_or_exchanged():
    iv, data = origin.sealed(LONG_KEY).split(":")
    blocks = [data[at : at + 32] for at in range(0, len(data), 32)]
    count = len(blocks)
    others = [[iv, *blocks[:keep]] for keep in range(1, count)]
    others += [[*blocks[start:]] for start in range(count - 1)]
    others += [[iv, *blocks[:at], blocks[at], *blocks[at:]] for at in range(count)]
    others += [[iv, *blocks[:at], *blocks[at + 1 :]] for at in range(count)]
    others += [
        [iv, *blocks[:at], blocks[at + 1], blocks[at], *blocks[at + 2 :]] for at in range(count - 1)
    ]

    assert [opens(READER, f"{first}:{''.join(rest)}") for first, *rest in others] == [None] * len(
        others
    )


def test_the_origins_rows_are_bound_to_nobody_and_what_we_seal_is():
    bob = replace(KEY_PLACE, owner="bob")

    assert opens(READER, VECTOR, bob) == VECTOR_KEY
    assert opens(READER, READER.seal(VECTOR_KEY, KEY_PLACE), bob) is None


@pytest.mark.parametrize("place", [PLACE, PROMPT_PLACE])
def test_the_origins_cipher_is_read_only_where_the_origin_used_it(place):
    assert opens(READER, VECTOR, place) == (VECTOR if place is PROMPT_PLACE else None)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "You write haiku about {topic}{/topic}.",
        "日本語で答えて。",
        VECTOR,
        CANARY,
        "v1",
        "v1.",
        "v1. Answer briefly.",
        "v1.0 of the poet",
        "v2.k1.AAAA",
        " v1.k1.AAAA",
        "half \ud83c a pair",
        "two\nlines\x00",
    ],
)
def test_a_prompt_that_does_not_begin_like_ours_is_the_origins_plain_text(prompt):
    assert opens(BOX, prompt, PROMPT_PLACE) == prompt
    assert BOX.form(prompt, PROMPT_PLACE) == Form(origin="plaintext")


@pytest.mark.parametrize("place", [PLACE, KEY_PLACE])
def test_plain_text_is_read_in_no_other_place(place):
    assert opens(READER, CANARY, place) is None


@pytest.mark.parametrize("rest", ["", "AAAA", "AAAA\n", " words", "AA.AA", "A" * 40 + "=" * 3])
def test_a_prompt_that_begins_like_ours_is_ours_and_whole_or_unreadable(rest):
    assert opens(BOX, f"v1.k1.{rest}", PROMPT_PLACE) is None
    assert opens(BOX, f"v1.other.{rest}", PROMPT_PLACE) is None


@pytest.mark.parametrize("prompt", ["", "Write a haiku.", "words " * 100])
def test_a_damaged_prompt_is_never_taken_for_plain_text(prompt):
    sealed = BOX.seal(prompt, PROMPT_PLACE)

    for place in range(len(sealed)):
        for wrong in set("Az09-_+/=. \n\x00é") - {sealed[place]}:
            damaged = sealed[:place] + wrong + sealed[place + 1 :]
            assert opens(BOX, damaged, PROMPT_PLACE) is None, damaged
            assert BOX.form(damaged, PROMPT_PLACE).origin is None, damaged


@pytest.mark.parametrize("place", [PLACE, KEY_PLACE, PROMPT_PLACE])
def test_what_is_written_is_always_ours_and_a_columns_past_is_no_part_of_it(place):
    sealed = READER.seal(CANARY, place)

    assert sealed.startswith("v1.k1.")
    for past in (None, "aes-256-cbc", "plaintext"):
        assert opens(READER, sealed, replace(place, origin=past)) == CANARY


@pytest.mark.parametrize(
    ("sealed", "place", "form"),
    [
        pytest.param(BOX.seal("", PLACE), PLACE, Form(key_id="k1"), id="ours"),
        pytest.param(BOX.seal("", PROMPT_PLACE), PROMPT_PLACE, Form(key_id="k1"), id="our prompt"),
        ("v1.lost.AAAA", KEY_PLACE, Form(key_id="lost")),
        (VECTOR, KEY_PLACE, Form(origin="aes-256-cbc")),
        (VECTOR, PLACE, Form()),
        (VECTOR, PROMPT_PLACE, Form(origin="plaintext")),
        (VECTOR.upper(), KEY_PLACE, Form()),
        (CANARY, KEY_PLACE, Form()),
        (CANARY, PLACE, Form()),
        ("", PLACE, Form()),
        ("v1.k 1.AAAA", PLACE, Form()),
    ],
)
def test_how_a_value_is_kept_is_told_by_its_looks(sealed, place, form):
    assert BOX.form(sealed, place) == form


def test_no_box_shows_the_origins_secret():
    assert origin.SECRET not in repr(READER) + repr(OriginCipher(origin.SECRET))
