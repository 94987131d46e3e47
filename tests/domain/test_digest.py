"""What was asked for, as one fingerprint."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402jobs.domain.call import Call
from x402jobs.domain.digest import request_digest

RAIN = {"topic": "rain", "tone": "dry"}
HAIKU = "/@ada/haiku"


def test_the_fingerprint_is_the_specified_one():
    expected = hashlib.sha256(b'/@ada/haiku\n{"tone":"dry","topic":"rain"}').hexdigest()

    assert request_digest(HAIKU, RAIN) == expected


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (HAIKU, {"tone": "dry", "topic": "rain"}),
        ("/@Ada/HAIKU", RAIN),
        (HAIKU, RAIN | {"user_message": None}),
        (HAIKU, RAIN | {"another": None}),
    ],
)
def test_order_letter_case_of_the_path_and_nulls_make_no_difference(path, values):
    assert request_digest(path, values) == request_digest(HAIKU, RAIN)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (HAIKU, {}),
        (HAIKU, {"topic": "rain"}),
        (HAIKU, {"topic": "Rain", "tone": "dry"}),
        (HAIKU, {"topic": "rain ", "tone": "dry"}),
        (HAIKU, {"Topic": "rain", "tone": "dry"}),
        (HAIKU, {"topic": "dry", "tone": "rain"}),
        (HAIKU, RAIN | {"user_message": ""}),
        ("/@ada/haiku/", RAIN),
        ("/@ada/other", RAIN),
        ("/@bob/haiku", RAIN),
    ],
)
def test_anything_else_makes_another_fingerprint(path, values):
    assert request_digest(path, values) != request_digest(HAIKU, RAIN)


PATHS = st.text(alphabet='/@ab\n{}":', max_size=8)
VALUES = st.dictionaries(st.text(max_size=3), st.none() | st.text(max_size=3), max_size=3)


@given(PATHS, VALUES, PATHS, VALUES)
def test_two_requests_share_a_fingerprint_only_when_they_ask_the_same(one, these, other, those):
    def given_values(values):
        return {name: value for name, value in values.items() if value is not None}

    alike = one.lower() == other.lower() and given_values(these) == given_values(those)

    assert (request_digest(one, these) == request_digest(other, those)) == alike


@pytest.mark.parametrize(
    ("changes", "probe"),
    [
        ({}, True),
        ({"bare": False}, False),
        ({"owner_test": "true"}, False),
        ({"owner_test": "nonsense"}, False),
        ({"payment": object()}, False),
    ],
)
def test_only_a_bare_call_without_payment_or_wish_is_a_probe(changes, probe):
    plain = {"payment": None, "owner_test": None, "bare": True, "address": "", "began": 0.0}

    assert Call(HAIKU, {}, **plain | changes).is_probe is probe


def test_a_call_does_not_show_its_words_or_its_payment():
    call = Call(HAIKU, {"topic": "canary"}, "canary", None, False, "127.0.0.1", 0.0)

    assert "canary" not in repr(call)
    assert call.digest == request_digest(HAIKU, {"topic": "canary"})
