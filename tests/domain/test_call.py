"""How far a stream has come, as its ids say it."""

import pytest

from x402jobs.domain.call import Mark

ID = "9b149e93-196d-4437-a8ff-ccf397ae93c2"


@pytest.mark.parametrize("after", [0, 1, 1300, 2**20, 9_999_999_999])
def test_an_id_that_was_sent_is_read_as_it_was_meant(after):
    mark = Mark(ID, after)

    assert str(mark) == f"{ID}.{after}"
    assert Mark.parse(str(mark)) == mark


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", ID, f"{ID}.", f".{ID}", ".5", f"{ID}.-1", f"{ID}.+1", f"{ID}.1.2", f"{ID}.1e3"),
        *(f"{ID}.5 ", f" {ID}.5", f"{ID}.5\n", f"{ID}.5, {ID}.6", f"{ID}.\u0665", f"{ID}.0x1"),
        *(f"{ID}.{10**10}", "a" * 65 + ".5", "a b.5", "\ud83c.5", "' OR 1=1--.5", "../x.5"),
    ],
)
def test_anything_else_is_none(text):
    assert Mark.parse(text) is None
