"""JSON that two readers cannot take for two things."""

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402jobs.domain import strict_json

NESTED = b"[" * 8 + b"]" * 8


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON at character 0"),
        (b" ", "not JSON at character"),
        (b"{", "not JSON at character 1"),
        (b"{'x': 1}", "not JSON at character 1"),
        (b'{"x": 1,}', "not JSON"),
        (b'{"x": 1} {}', "not JSON at character 9"),
        (b"[1 2]", "not JSON"),
        (b"// no\n1", "not JSON"),
        (b"01", "not JSON"),
        (b"+1", "not JSON"),
        (b".5", "not JSON"),
        (b"0x10", "not JSON"),
        (b"tru", "not JSON"),
        (b'"a\nb"', "not JSON"),
        (b'"\\x41"', "not JSON"),
        (b'"\\ud8"', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON at character 0"),
        (b'"\xff"', "not UTF-8"),
        (b'"\xc0\xaf"', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        ("{}".encode("utf-16"), "not UTF-8"),
        ("{}".encode("utf-16-le"), "not JSON"),
        (b'{"x": 1, "x": 1}', "duplicate key 'x'"),
        (b'{"x": 1, "\\u0078": 2}', "duplicate key 'x'"),
        (b'[{"y": {"x": 1, "z": 2, "x": 3}}]', "duplicate key 'x'"),
        (b'{"\xc3\xa9": 1, "\xc3\xa9": 2}', "duplicate key '\\xe9'"),
        (b"NaN", "NaN is not JSON"),
        (b'{"x": Infinity}', "Infinity is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"1e400", "too large"),
        (b"-1e400", "too large"),
        (b'{"x": [1.0e999]}', "too large"),
        (b"1" * 101, "too large"),
        (b"-" + b"1" * 100, "too large"),
        (b"1" * 60_000, "too large"),
        (b'"\\u0000"', "NUL"),
        (b'{"a\\u0000b": 1}', "NUL"),
        (b'[["x\\u0000"]]', "NUL"),
        (b'"\\ud800"', "lone surrogate"),
        (b'"\\udc00\\ud800"', "lone surrogate"),
        (b'{"\\udfff": 1}', "lone surrogate"),
        (b'{"x": ["\\ud83c"]}', "lone surrogate"),
        (b"[" + NESTED + b"]", "nested deeper than 8"),
        (b'{"x":' * 9 + b"1" + b"}" * 9, "nested deeper than 8"),
        (b'[{"x":' * 5 + b"1" + b"}]" * 5, "nested deeper than 8"),
        (b"[" * 60_000, "nested deeper than 8"),
        (b'{"a":"\\\\"' + b"[" * 9, "nested deeper than 8"),
    ],
)
def test_an_ambiguous_document_is_refused_with_the_reason(raw, reason):
    with pytest.raises(ValueError) as refusal:
        strict_json.loads(raw)

    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b" \n\t{} ",
        NESTED,
        b'"' + b"[{" * 50 + b'"',
        b'"\\"[[[[[[[[[[[["',
        b'{"\\\\": "]]]]", "x\\"{": ["[[[[[[[[["]}',
        b'"\\ud83c\\udf27"',
        '"🌧 é \u2028"'.encode(),
        b"1" * 100,
        b"-0",
        b"-0.0",
        b"1e308",
        b"1E-400",
        b'{"x": null, "X": true, "": [1, 2.5, "a"]}',
        b'[{"x": 1}, {"x": 2}]',
        b'"\\u007f\\u0001"',
    ],
)
def test_every_other_document_is_read_as_json_reads_it(raw):
    assert strict_json.loads(raw) == json.loads(raw)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**99) + 1, 10**99),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
)


def depth(document):
    inner = document.values() if isinstance(document, dict) else document
    return 1 + max(map(depth, inner), default=0) if isinstance(document, (dict, list)) else 0


DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(DOCUMENTS.filter(lambda document: depth(document) <= 8), st.booleans())
def test_what_json_writes_is_read_back_equal(document, ascii_only):
    raw = json.dumps(document, ensure_ascii=ascii_only).encode()

    assert strict_json.loads(raw) == json.loads(raw) == document


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:\\u0dx1e9 ', max_size=40).map(str.encode))
def test_any_bytes_are_read_as_json_reads_them_or_refused_with_a_value_error(raw):
    try:
        document = strict_json.loads(raw)
    except ValueError:
        return

    assert document == json.loads(raw)
    assert json.loads(json.dumps(document, allow_nan=False)) == document


@given(st.floats())
def test_a_number_is_finite_or_refused(number):
    raw = json.dumps(number).encode()

    if math.isfinite(number):
        assert strict_json.loads(raw) == number
    else:
        with pytest.raises(ValueError):
            strict_json.loads(raw)


def test_a_body_of_keys_with_one_duplicate_takes_time_in_proportion():
    """64 KiB hold 9000 keys; comparing each with each would hold up a worker for seconds."""

    def least_seconds(keys):
        names = [f'"{number:x}":1' for number in range(keys)]
        raw = ("{" + ",".join([*names, names[-1]]) + "}").encode()
        took = []
        for _ in range(3):
            began = time.process_time()
            with pytest.raises(ValueError, match="duplicate key"):
                strict_json.loads(raw)
            took.append(time.process_time() - began)
        return min(took)

    small, large = least_seconds(2_000), least_seconds(8_000)

    assert large < 10 * small + 0.005


def test_a_reason_quotes_a_long_key_only_so_far():
    raw = json.dumps({"k" * 5000: 1})[:-1].encode() + b', "' + b"k" * 5000 + b'": 2}'

    with pytest.raises(ValueError) as refusal:
        strict_json.loads(raw)

    assert len(str(refusal.value)) < 100
