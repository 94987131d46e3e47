"""Finding a template and filling it."""

from dataclasses import replace

import pytest

from tests.fakes import FakeCatalogue, PlainBox
from x402jobs.domain.call import Call
from x402jobs.domain.errors import InvalidRequest, NotFound, TemplateUnavailable
from x402jobs.domain.listing import Listing, StoredTemplate
from x402jobs.domain.payment import Authorization, Payment
from x402jobs.services.templates import Templates, prompt_place

PROMPT = "Say {topic}{/topic}."
STORED = StoredTemplate(
    id="t1",
    version=3,
    owner_id="ada",
    username="ada",
    slug="haiku",
    name="Haiku",
    description="A haiku",
    price=10_000,
    sealed_prompt=PlainBox().seal(PROMPT, prompt_place("ada")),
    parameters='[{"name": "topic"}]',
    model="claude",
    max_tokens=100,
    allows_user_message=False,
    network="eip155:31337",
    created_at=1000.5,
    updated_at=1001.5,
)
CALL = Call("/@ada/haiku", {"topic": "rain"}, None, None, bare=False, address="", began=0.0)
PROBE = replace(CALL, values={}, bare=True)


def templates(catalogue=None):
    return Templates(catalogue or FakeCatalogue(), PlainBox())


def found(**changes):
    return templates().find(Listing(template=replace(STORED, **changes)))


def test_one_look_is_taken_with_the_payments_claim_key():
    catalogue = FakeCatalogue(Listing(pay_to="0xADA"))
    signed = Authorization("0xada", "0xb", 1, 0, 1, "0x1")
    payment = Payment(signed, b"", "exact", "eip155:1", "0xd0", "1", "0xb")

    assert templates(catalogue).listing("Ada", "haiku", CALL) == Listing(pay_to="0xADA")
    templates(catalogue).listing("ada", "haiku", replace(CALL, payment=payment))

    assert catalogue.looked_up == [
        ("Ada", "haiku", None),
        ("ada", "haiku", "eip3009:eip155:1:0xd0:0xada:0x1"),
    ]


def test_a_template_is_opened_with_everything_its_creator_wrote():
    template = found()

    assert (template.id, template.version, template.owner_id) == ("t1", 3, "ada")
    assert template.path == "/@ada/haiku"
    assert (template.name, template.description, template.price) == ("Haiku", "A haiku", 10_000)
    assert template.system_prompt == PROMPT
    assert [each.name for each in template.parameters] == ["topic"]
    assert (template.model, template.max_tokens) == ("claude", 100)
    assert template.allows_user_message is False


def test_what_is_not_there_is_not_found():
    with pytest.raises(NotFound):
        templates().find(Listing())


BROKEN = {
    "a prompt that does not open": {"sealed_prompt": "the origin's plaintext"},
    "a prompt of somebody else's": {"sealed_prompt": PlainBox().seal(PROMPT, prompt_place("bob"))},
    "a tag without its parameter": {"parameters": []},
    "a parameter without its tag": {"parameters": [{"name": "topic"}, {"name": "tone"}]},
    "a parameter defined twice": {"parameters": [{"name": "topic"}, {"name": "topic"}]},
    "a reserved name": {"parameters": [{"name": "topic"}, {"name": "user_message"}]},
    "a name that is no name": {"parameters": [{"name": "topic!"}]},
    "a parameter without a name": {"parameters": [{}]},
    "a name that is no text": {"parameters": [{"name": 5}]},
    "a parameter that is a text": {"parameters": ["topic"]},
    "a parameter that is nothing": {"parameters": [None]},
    "parameters that are an object": {"parameters": {"topic": {}}},
    "parameters that are nothing": {"parameters": None},
    "parameters that are a number": {"parameters": 5},
    "a default that is no text": {"parameters": [{"name": "topic", "default": 5}]},
    "a length that is no number": {"parameters": [{"name": "topic", "maxLength": "40"}]},
    "a length over the limit": {"parameters": [{"name": "topic", "maxLength": 10**6}]},
    "a choice of numbers": {"parameters": [{"name": "topic", "enum": [1, 2]}]},
    "a choice that is a number": {"parameters": [{"name": "topic", "enum": 5}]},
    "a choice that is a text": {"parameters": [{"name": "topic", "enum": "rain"}]},
}


@pytest.mark.parametrize("changes", BROKEN.values(), ids=BROKEN)
def test_a_stored_template_that_breaks_the_rules_is_a_shut_shop_and_no_crash(changes):
    with pytest.raises(TemplateUnavailable) as refusal:
        found(**changes)

    assert refusal.value.message == TemplateUnavailable.sentence
    assert (refusal.value.status, refusal.value.__cause__) == (503, None)


def test_a_call_is_filled_with_its_values():
    assert templates().fill(found(), CALL).system == "Say rain."
    with pytest.raises(InvalidRequest):
        templates().fill(found(), replace(CALL, values={}))


def test_a_probe_of_a_priced_template_is_not_filled():
    assert templates().fill(found(), PROBE).system == PROMPT


@pytest.mark.parametrize(
    ("price", "changes"),
    [(0, {}), (10_000, {"bare": False}), (10_000, {"owner_test": "true"})],
)
def test_a_probe_of_a_free_one_or_of_an_owners_is_checked_like_any_other_call(price, changes):
    with pytest.raises(InvalidRequest):
        templates().fill(found(price=price), replace(PROBE, **changes))
