"""A value that never shows itself."""

import copy
import io
import json
import logging
import pickle
import traceback
from dataclasses import asdict, dataclass

import pytest

from x402jobs.domain.secret import Secret

CANARY = "sk-ant-canary"


@dataclass
class Holder:
    secret: Secret


SHOWN = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "format": lambda secret: f"{secret} {secret!r} {secret!s}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
    "str.format": "{} {0!r}".replace("{}", "{0}").format,
    "in a list": lambda secret: repr([secret]),
    "in a dict": lambda secret: str({"key": secret}),
    "in a dataclass": lambda secret: repr(Holder(secret)),
    "in an exception": lambda secret: repr(ValueError(secret)) + str(ValueError(secret)),
    "dir": lambda secret: repr(dir(secret)),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_no_way_of_writing_it_down_contains_it(show):
    assert CANARY not in show(Secret(CANARY))


TAKEN = {
    "pickle": pickle.dumps,
    "pickle 2": lambda secret: pickle.dumps(secret, protocol=2),
    "pickled inside": lambda secret: pickle.dumps(Holder(secret)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "json": json.dumps,
    "vars": vars,
    "asdict": lambda secret: asdict(Holder(secret)),
    "width": lambda secret: f"{secret:>40}",
    "iteration": list,
    "bytes": bytes,
    "addition": lambda secret: "" + secret,
}


@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN)
def test_nothing_takes_it_along_and_no_refusal_quotes_it(take):
    with pytest.raises(TypeError) as refusal:
        take(Secret(CANARY))

    assert CANARY not in str(refusal.value)


def test_a_traceback_with_every_local_does_not_contain_it():
    def use(secret):
        raise RuntimeError("broken")

    try:
        use(Secret(CANARY))
    except RuntimeError as error:
        told = "".join(
            traceback.TracebackException.from_exception(error, capture_locals=True).format()
        )

    assert "secret = Secret(…)" in told
    assert CANARY not in told.replace(f'CANARY = "{CANARY}"', "")


def test_a_log_line_does_not_contain_it():
    stream = io.StringIO()
    log = logging.Logger("canary", logging.DEBUG)
    log.addHandler(logging.StreamHandler(stream))

    log.debug("%s %r", Secret(CANARY), {"key": Secret(CANARY)})

    assert stream.getvalue() == "Secret(…) {'key': Secret(…)}\n"


def test_only_reveal_gives_it():
    assert Secret(CANARY).reveal() == CANARY


def test_two_secrets_can_be_compared_without_being_revealed():
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
