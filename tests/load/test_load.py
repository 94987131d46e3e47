"""A little of what `python -m tests.load` does, one part after the other at one shop."""

from collections.abc import Callable, Iterator

import pytest

from tests.load import slow, stopping, streams
from tests.load.site import Report, Site, site

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("load"), groups=("one", "two"), gzip=True) as shop:
        yield shop


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(lambda shop: streams.streams(shop, 20, 20, 2, sample=0), id="streams"),
        pytest.param(lambda shop: slow.slow(shop, 40, 2), id="slow sockets"),
        pytest.param(lambda shop: stopping.reload(shop, 5, 1, 3), id="SIGHUP"),
        pytest.param(lambda shop: stopping.groups(shop, 1, 1, restarted=1), id="two groups"),
    ],
)
def test_load_is_borne(shop: Site, part: Callable[[Site], Report]) -> None:
    """SIGTERM and the cap at this size: tests/battery, tests/wire/test_server.py."""
    report = part(shop)

    print(report)

    assert report.violations == []
