"""The creator's key: sealed, opened, never shown."""

import pytest

from tests.fakes import FakeKeys, PlainBox
from x402jobs.domain.errors import TemplateUnavailable
from x402jobs.domain.listing import Listing
from x402jobs.domain.prompt_template import PromptTemplate
from x402jobs.domain.secret import Secret
from x402jobs.services.integrations import Integrations, claude_key_place

TEMPLATE = PromptTemplate("t", 1, "ada", "/@ada/h", "H", "", 0, "", [], "claude", 1, False)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_key_is_sealed_in_its_owners_place_before_it_is_stored(enabled):
    keys = FakeKeys()

    Integrations(keys, PlainBox()).save_claude_key("ada", Secret("sk"), enabled=enabled)

    sealed = "sealed|x402_user_claude_configs|api_key_encrypted|ada|sk"
    assert keys.put == [("ada", sealed, enabled)]


def test_an_address_is_stored_as_it_is():
    keys = FakeKeys()

    Integrations(keys, PlainBox()).save_pay_to("ada", "0xADA")

    assert keys.put == [("ada", "0xADA")]


def test_the_templates_owners_key_is_opened():
    sealed = PlainBox().seal("sk", claude_key_place("ada"))

    key = Integrations(FakeKeys(), PlainBox()).claude_key(Listing(sealed_key=sealed), TEMPLATE)

    assert key == Secret("sk")


@pytest.mark.parametrize(
    "sealed", [None, "", "garbage", PlainBox().seal("sk", claude_key_place("bob"))]
)
def test_without_a_key_that_opens_the_shop_is_shut(sealed):
    with pytest.raises(TemplateUnavailable) as refusal:
        Integrations(FakeKeys(), PlainBox()).claude_key(Listing(sealed_key=sealed), TEMPLATE)

    assert refusal.value.message == TemplateUnavailable.sentence
