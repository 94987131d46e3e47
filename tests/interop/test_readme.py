"""The README's paying JavaScript pays."""

import os
import re
import subprocess

import pytest

from tests.conftest import PRICE
from tests.interop.packages import HERE, node
from tests.test_readme import README
from tests.wire.conftest import Server

pytestmark = pytest.mark.wire


def test_the_paying_fetch_of_the_readme_and_its_reader_buy_an_answer(server: Server) -> None:
    """The two examples put together, as the README says."""
    program = node()
    words = "Rain taps the window.\nNobody is \u201chome\u201d. \U0001f327"
    server.claude.script({"text": words})
    before = server.balance()
    (paying,) = re.findall(r"```js\n(.*?)```", README, re.DOTALL)
    (reading,) = re.findall(r"```javascript\n(.*?)```", README, re.DOTALL)
    reading = reading.replace("http://127.0.0.1:4020", server.url).replace(
        "await fetch", "await pay"
    )
    reading = re.sub(r"\n *Authorization: .*\n *.X-OWNER-TEST.*", "", reading)

    ran = subprocess.run(
        [program, "--input-type=module", "-e", paying + reading],
        cwd=HERE,
        env={"PATH": os.environ["PATH"], "KEY": server.wallet.key.reveal()},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert ran.returncode == 0, ran.stderr
    assert (ran.stdout, server.balance()) == (words, before - PRICE)
