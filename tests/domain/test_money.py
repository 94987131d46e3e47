"""Micro-USDC inside, decimal text at the doors, nothing lost between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402jobs.domain.money import as_usdc, parse_usdc


def test_every_price_of_a_tenth_of_a_cent_up_to_twenty_dollars_is_exact():
    for thousandths in range(1, 20_001):
        text = f"{thousandths // 1000}.{thousandths % 1000:03d}"

        micro = parse_usdc(text)

        assert micro == thousandths * 1000
        assert parse_usdc(as_usdc(micro)) == micro
        assert as_usdc(micro).rstrip("0") == text.rstrip("0")


@given(st.integers(0, 10**15))
def test_every_amount_survives_the_way_out_and_back(micro):
    assert parse_usdc(as_usdc(micro)) == micro


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("0", 0),
        ("0.00", 0),
        ("0.000001", 1),
        ("0.01", 10_000),
        ("0.010000", 10_000),
        ("00.1", 100_000),
        ("1", 1_000_000),
        ("1000", 1_000_000_000),
        ("9007199254.740993", 9_007_199_254_740_993),
    ],
)
def test_a_decimal_string_is_read_exactly(text, micro):
    assert parse_usdc(text) == micro


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "-0",
        "+1",
        "1e3",
        "1E-2",
        "0.0000001",
        "0.0000000",
        "1.2.3",
        "1,5",
        "1_000",
        " 1",
        "1 ",
        "1\n",
        "NaN",
        "sNaN",
        "Infinity",
        "-Infinity",
        "0x10",
        "ten",
        "$1",
        "１",
        "٣",
        "1.٣",
        ".",
        "1" * 100,
        "\x00",
    ],
)
def test_anything_that_is_not_a_plain_decimal_is_refused(text):
    with pytest.raises(ValueError):
        parse_usdc(text)


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (0, "0.00"),
        (1, "0.000001"),
        (10, "0.00001"),
        (1_000, "0.001"),
        (10_000, "0.01"),
        (100_000, "0.10"),
        (123_000, "0.123"),
        (1_000_000, "1.00"),
        (12_500_000, "12.50"),
        (1_000_000_001, "1000.000001"),
    ],
)
def test_money_is_written_with_at_least_two_places(micro, text):
    assert as_usdc(micro) == text
