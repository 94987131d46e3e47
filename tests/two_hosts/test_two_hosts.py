"""A little of `python -m tests.two_hosts`, in one house and in a hurry."""

import random
from pathlib import Path

import pytest

from tests.battery.house import HURRIED, Site
from tests.supabase.rig import Rig
from tests.two_hosts import parts

pytestmark = pytest.mark.wire

SEED = random.SystemRandom().randrange(10**6)


def test_two_hosts_are_one_shop(rig: Rig, tmp_path: Path) -> None:
    """Its limits, accounts and payments are common, and what one host leaves the other ends."""
    with parts.two_hosts(Site(tmp_path, rig.postgres), SEED, hurry=HURRIED) as hosts:
        reports = [
            parts.common_limits(hosts, 60),
            parts.one_account(hosts),
            parts.one_run(hosts, 1, 20),
            parts.redis_goes(hosts),
            parts.one_dies(hosts, 6),
        ]

    print(*reports, sep="\n")
    assert [report.violations for report in reports] == [[]] * len(reports), f"seed {SEED}"
