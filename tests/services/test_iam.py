"""Who is calling, and who may test a template for nothing."""

import pytest

from tests.fakes import FakeCatalogue, FakeLimits, FakeTokens
from x402jobs.domain.caller import Caller
from x402jobs.domain.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    TooManyRequests,
    Unauthenticated,
)
from x402jobs.domain.prompt_template import PromptTemplate
from x402jobs.services.iam import Iam

HOME = "127.0.0.1"
ADA = Caller("ada", method="bearer")
TEMPLATE = PromptTemplate("t", 1, "ada", "/@ada/h", "H", "", 0, "", [], "claude", 1, False)


def iam(**limits):
    limits = FakeLimits(**limits)
    return Iam(FakeTokens({"good": "ada"}), limits, FakeCatalogue()), limits


def test_no_header_is_nobody_and_no_fault():
    service, limits = iam(shut=5.0)

    assert service.recognise(None, HOME) is None
    assert limits.hits == []


@pytest.mark.parametrize("header", ["Bearer good", "bearer good", "BEARER good", "Bearer  good "])
def test_a_good_token_is_its_account(header):
    service, limits = iam(shut=5.0)

    assert service.recognise(header, HOME) == ADA
    assert limits.hits == []


BAD = [
    "",
    "Bearer",
    "Bearer ",
    "good",
    "Basic good",
    "Bearer bad",
    "Bearer good,good",
    "Token good",
]


@pytest.mark.parametrize("header", BAD)
def test_a_bad_credential_is_refused_and_counted_against_its_address(header):
    service, limits = iam()

    with pytest.raises(Unauthenticated):
        service.recognise(header, HOME)
    assert limits.hits == [("failed_credential", HOME)]


@pytest.mark.parametrize("header", BAD)
def test_an_address_that_sends_too_many_bad_ones_is_told_to_wait(header):
    service, _ = iam(shut=7.5)

    with pytest.raises(TooManyRequests) as refusal:
        service.recognise(header, HOME)
    assert refusal.value.retry_after == 7.5


@pytest.mark.parametrize("caller", [None, ADA, Caller("bob", method="bearer")])
def test_nobody_who_does_not_ask_for_a_test_gets_one(caller):
    service, limits = iam(shut=5.0)

    assert service.owner_test(None, caller, TEMPLATE) is False
    assert limits.hits == []


@pytest.mark.parametrize("header", ["", "True", "TRUE", "1", "yes", "false", "true,true", " true"])
@pytest.mark.parametrize("caller", [None, ADA])
def test_a_wish_that_is_not_exactly_true_is_refused_by_its_name(header, caller):
    with pytest.raises(InvalidRequest) as refusal:
        iam()[0].owner_test(header, caller, TEMPLATE)
    assert refusal.value.field == "X-OWNER-TEST"


@pytest.mark.parametrize(
    ("caller", "refused"), [(None, Unauthenticated), (Caller("bob", method="bearer"), Forbidden)]
)
def test_only_the_creator_may_test(caller, refused):
    service, limits = iam()

    with pytest.raises(refused):
        service.owner_test("true", caller, TEMPLATE)
    assert limits.hits == []


def test_the_creator_tests_for_nothing_within_a_limit():
    service, limits = iam()

    assert service.owner_test("true", ADA, TEMPLATE) is True
    assert limits.hits == [("owner_test", "ada")]
    with pytest.raises(TooManyRequests) as refusal:
        iam(shut=3.0)[0].owner_test("true", ADA, TEMPLATE)
    assert refusal.value.retry_after == 3.0


class OneName(FakeCatalogue):
    """A catalogue whose only name is what it is told."""

    def __init__(self, given):
        super().__init__()
        self.given = given

    def give_username(self, user_id, username):
        self.looked_up.append((user_id, username, None))
        return self.given


@pytest.mark.parametrize("stored", ["ada", "Ada"])
def test_a_chosen_name_is_the_one_that_is_stored(stored):
    catalogue = OneName(stored)
    service = Iam(FakeTokens({}), FakeLimits(), catalogue)

    assert service.choose_username("u1", "ada") == stored
    assert catalogue.looked_up == [("u1", "ada", None)]


@pytest.mark.parametrize(
    ("given", "says"),
    [(None, "This username is taken."), ("bob", "You are called bob; a username is chosen once.")],
)
def test_a_name_that_is_somebody_elses_or_comes_second_is_refused(given, says):
    service = Iam(FakeTokens({}), FakeLimits(), OneName(given))

    with pytest.raises(Conflict) as refusal:
        service.choose_username("u1", "ada")
    assert (refusal.value.message, refusal.value.field) == (says, "username")
